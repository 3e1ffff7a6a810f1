/**
 * The clock of a process that takes part: `CHAOS_CLOCK` milliseconds off, and SIGUSR2 makes it jump. Has to be imported before
 * anything that reads the time. Every process is on one machine, with the servers: the time that they share is the true one.
 */

const trueNow = Date.now.bind(Date)

const minute = 60_000
// also back, and by more than a lease
const offsets = [Number(process.env["CHAOS_CLOCK"] ?? 0), -5 * minute, 60 * minute, 0, 5 * minute]
let jumps = 0

Date.now = () => trueNow() + offsets[jumps % offsets.length]!
process.on("SIGUSR2", () => {
  jumps++
})

/** The time of the machine, which the servers go by. */
export const now: () => number = trueNow
