import { registerHooks } from 'node:module'

/** Modules of zod that load its messages in all languages. */
const LOADERS = 2

/**
 * zod loads its messages in 60 languages, each a module of its own, and a twelfth of what `resolve` takes: here they
 * are left out. What is wrong with a definition we say in our own words (definition/explain.ts). Where zod loads them
 * in another way some day, they are loaded, and nothing else changes. To be called before anything imports zod.
 */
export function leaveOutLocales(): void {
  let left = 0
  const hooks = registerHooks({
    resolve(specifier, context, next) {
      const isTheirs =
        specifier === '../locales/index.js' && context.parentURL?.includes('/node_modules/zod/')
      if (!isTheirs) return next(specifier, context)
      // A hook makes loading CommonJS slower.
      if (++left === LOADERS) hooks.deregister()
      return { url: 'data:text/javascript,', shortCircuit: true }
    },
  })
}
