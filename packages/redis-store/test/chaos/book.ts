/**
 * The ledger: one file per process, to which it appends what it did, outside Redis. A line is one write, so what was written
 * is there when the process is killed.
 */
import type { DocketStore } from "@effect-docket/runtime"
import { openSync, readdirSync, readFileSync, writeSync } from "node:fs"
import * as path from "node:path"

/** A line. `at` is the time of the machine. */
export type Line =
  /** A producer is about to add a run, adds it again because it got no answer, and was told that it is there. */
  | { readonly tag: "intend"; readonly at: number; readonly key: string; readonly after: number; readonly ends: Ending }
  | { readonly tag: "again"; readonly at: number; readonly key: string }
  | { readonly tag: "added"; readonly at: number; readonly key: string }
  /** A producer is about to cancel a run, and was told that it has, or that it had ended. */
  | { readonly tag: "cancelling"; readonly at: number; readonly key: string }
  | { readonly tag: "cancelled"; readonly at: number; readonly key: string }
  /** A worker was given a run. */
  | {
    readonly tag: "claim"
    readonly at: number
    readonly key: string
    readonly task: string
    readonly generation: number
    readonly token: string
    readonly attempt: number
    readonly lost: number
    readonly due: number
    readonly startedAt: number
    readonly between: boolean
  }
  /** A body began, and ended; `gate`: what its limit is about. */
  | { readonly tag: "begin"; readonly at: number; readonly token: string; readonly gate?: string | undefined }
  | { readonly tag: "end"; readonly at: number; readonly token: string }
  /** A claim was renewed; `at` is before it was asked for. */
  | { readonly tag: "renewed"; readonly at: number; readonly token: string }
  /** A settlement is sent, and answered. */
  | {
    readonly tag: "settle"
    readonly at: number
    readonly token: string
    readonly change: DocketStore.Change["_tag"]
    readonly after: number
  }
  | { readonly tag: "settled"; readonly at: number; readonly token: string; readonly answer: DocketStore.Settled }

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
