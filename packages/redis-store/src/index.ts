/**
 * The Redis store of effect-docket. It comes with the next release; this version reserves the name and exports nothing.
 *
 * @since 0.1.0
 */
export {} // oxlint-disable-line unicorn/require-module-specifiers -- makes an empty file a module
