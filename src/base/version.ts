/** Put in by scripts/bundle.mjs, from package.json. */
declare const LAMINA_VERSION: string | undefined;

/** The version of the installed bundle; what runs from a checkout has none. */
export const VERSION: string = typeof LAMINA_VERSION === 'undefined' ? '(checkout)' : LAMINA_VERSION;
