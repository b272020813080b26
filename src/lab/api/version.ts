/** The release whose behaviour the lab has. */
export const VERSION = { version: '8.4.21', release: '8.4', repoid: 'imagebuild' }
