/**
 * Most runs that one call promotes, takes over, forgets or refuses. A thousand take about a millisecond, so that 50,000 runs due
 * at one instant never hold the event loop; what is left follows in the next call, at once.
 */
export const batch = 1000
