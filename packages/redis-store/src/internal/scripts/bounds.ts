/**
 * How much one call of a script does at most.
 */

/**
 * Runs that one turn promotes or takes over, of each group, and that it claims; runs that a script makes ready that were
 * held. Five hundred take about two milliseconds of the server.
 */
export const most = 500
