/**
 * The ledger: one file per process, to which it appends what it did, outside Redis. A line is one write, so what was written
 * is there when the process is killed.
 */
import type { DocketStore } from "@effect-docket/runtime"
import { openSync, readdirSync, readFileSync, writeSync } from "node:fs"
import * as path from "node:path"

/** What every line says: what it is, and the time of the machine. */
interface At<Tag extends string> {
  readonly tag: Tag
  readonly at: number
}

interface OfRun<Tag extends string> extends At<Tag> {
  readonly key: string
}

interface OfClaim<Tag extends string> extends At<Tag> {
  readonly token: string
}

/** A worker was given a run. */
export interface Claimed extends OfRun<"claim">, OfClaim<"claim"> {
  readonly task: string
  readonly generation: number
  readonly attempt: number
  readonly lost: number
  readonly due: number
  readonly startedAt: number
  readonly between: boolean
}

/** A producer is about to add a run. */
interface Intended extends OfRun<"intend"> {
  readonly after: number
  readonly ends: Ending
}

/** The effect of a run: its body begins. `gate`: what its limit is about. */
interface Begun extends OfRun<"begin">, OfClaim<"begin"> {
  readonly generation: number
  readonly gate?: string | undefined
}

/** A settlement is sent. */
interface Settling extends OfClaim<"settle"> {
  readonly change: DocketStore.Change["_tag"]
  readonly after: number
}

/** A line. */
export type Line =
  /** A process begins, with the code that is there. */
  | At<"code"> & { readonly from: string }
  /** A process or the servers had their turn. */
  | At<"awake">
  | Intended
  /** A producer adds a run again because it got no answer, and was told that it is there. */
  | OfRun<"again" | "added">
  /** A producer is about to cancel a run, and was told that it has, or that it had ended. */
  | OfRun<"cancelling" | "cancelled">
  | Claimed
  | Begun
  /** A body ended. */
  | OfClaim<"end">
  /** A claim was renewed. */
  | OfClaim<"renewed"> & { readonly asked: number }
  | Settling
  | OfClaim<"settled"> & { readonly answer: DocketStore.Settled }

/** How a run has to end, if nobody cancels it: with a value, with its error, or when the beats are to end. */
export type Ending = number | "fails" | "goes on"

/** A line, and who wrote it. */
export type Written = Line & { readonly by: string }

/** Opens a file of the ledger. */
export const open = (file: string): (line: Line) => void => {
  const descriptor = openSync(file, "a")
  return (line) => {
    writeSync(descriptor, `${JSON.stringify(line)}\n`)
  }
}

/** The file of one life of a process. */
export const fileOf = (folder: string, name: string, life: number): string => path.join(folder, `${name}.${life}.log`)

const parse = (by: string, text: string): ReadonlyArray<Written> =>
  // what comes after the last line end was being written when the process was killed
  text.split("\n").slice(0, -1).map((line) => ({ ...JSON.parse(line) as Line, by })) // as `open` writes it

/** Everything that the processes have written, or one of them, each file in its order. */
export const readAll = (folder: string, by?: string): ReadonlyArray<Written> =>
  readdirSync(folder).toSorted().flatMap((file) => {
    const name = file.slice(0, file.indexOf("."))
    return by === undefined || by === name ? parse(name, readFileSync(path.join(folder, file), "utf8")) : []
  })
