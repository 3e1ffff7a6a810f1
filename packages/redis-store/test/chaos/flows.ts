/**
 * The flow: a chain, with a fan-out in it whose members retry. Apart from the tasks, because builds that are to run beside
 * this one may know no flows.
 */
import { Flow } from "@effect-docket/dsl"
import { Part, Split, Sum } from "./tasks.ts"

/** Splits, does each part, and sums up. */
export class Parts extends Flow.make("Parts", Split.pipe(Flow.forEach(Part), Flow.andThen(Sum))) {}
