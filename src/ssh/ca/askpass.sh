#!/bin/sh
# SSH_ASKPASS of ssh-keygen: the passphrase comes by the environment, which only its owner can read, never by argv.
printf '%s\n' "$IMAGEBUILD_CA_PASSPHRASE"
