import { ApiError } from '../errors.ts'
import type { GuestConfig } from '../guests/store.ts'
import { normalTags } from '../guests/tags.ts'
import type { Call } from '../router.ts'
import { CONTAINER_OPTIONS } from './options.ts'
import { isNet, parseNet, printNet, storedDescription } from './values.ts'

/** From what a call says to what a configuration holds. */

/** The options among a call's parameters. @throws ApiError 501 for what the lab's containers do not have */
export function containerOptions(call: Call): GuestConfig {
  const options: GuestConfig = {}
  for (const [name, value] of Object.entries(call.values)) {
    if (!(name in CONTAINER_OPTIONS) || Array.isArray(value)) continue
    if (/^(mp|dev)\d+$/.test(name)) {
      throw new ApiError(501, `the lab's containers have a root volume only: no ${name}`)
    }
    if (name === 'env' || name === 'entrypoint') {
      throw new ApiError(501, `the lab's containers start their own init: no ${name}`)
    }
    if (/^unused\d+$/.test(name)) continue
    options[name] = value
  }
  return options
}

/** As they are stored: cards with their MAC, notes with their newline, tags in order; what is off by itself is left out. */
export function completeOptions(options: GuestConfig): GuestConfig {
  const complete: GuestConfig = {}
  for (const [name, value] of Object.entries(options)) {
    if (name === 'rootfs' || (name === 'unprivileged' && value === 0)) continue
    const stored = storedValue(name, value)
    if (stored !== undefined) complete[name] = stored
  }
  return complete
}

function storedValue(name: string, value: string | number): string | number | undefined {
  if (name === 'description') return storedDescription(String(value))
  if (name === 'tags') return normalTags(String(value))
  return isNet(name) ? printNet(parseNet(value)) : value
}
