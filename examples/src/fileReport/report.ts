/**
 * What is known of the files, and the report made of it. Shown here: state of an application beside the docket as a
 * service, and a typed failure that ends in a message. The state is nothing but outcomes of runs, whoever ran them: a
 * process that starts anew gets them from the docket again.
 */
import type { TaskFailure } from "@effect-docket/dsl"
import { Context, Effect, FileSystem, Layer, Result, Schema } from "effect"
import { bytes, fit, number, plural } from "../shared/text.ts"
import type { Binary, Busy, Counted, Found, Search, Unreadable, Vanished } from "./files.ts"

type Failure = Busy | Unreadable | Binary | Vanished | TaskFailure.TaskFailure

/** The last outcome of each file, and of the last search. */
export class Ledger extends Context.Service<Ledger>()("examples/fileReport/Ledger", {
  make: Effect.sync(() => {
    const files = new Map<string, { readonly modified: bigint; readonly outcome: Result.Result<Counted, Failure> }>()
    let left = 0
    let stale = true
    let rest: Pick<Search, "skipped" | "unreadable"> | undefined
    return {
      files,
      rest: () => rest ?? { skipped: 0, unreadable: [] },
      failures: () => {
        const failed = Array.from(files.values()).filter(({ outcome }) => Result.isFailure(outcome))
        return failed.length + (rest?.unreadable.length ?? 0)
      },
      /** How many files of the last search have no outcome yet. */
      left: () => left,
      /** The files whose version is not known. */
      fresh: (found: ReadonlyArray<Found>) => {
        const fresh = found.filter((file) => files.get(file.path)?.modified !== file.modified)
        left = fresh.length
        stale ||= left > 0
        return fresh
      },
      record: ({ modified, path }: Found, outcome: Result.Result<Counted, Failure>) => {
        files.set(path, { modified, outcome })
        left--
      },
      /** Whether there is something that the report does not tell. */
      stale: () => stale,
      written: () => {
        stale = false
      },
      /** Forgets what was not found, and notes what could not be searched. */
      reconcile: ({ files: found, skipped, unreadable }: Search) => {
        const paths = new Set(found.map((file) => file.path))
        const before = files.size
        for (const path of files.keys()) if (!paths.has(path)) files.delete(path)
        const same = JSON.stringify(rest) === JSON.stringify(rest = { skipped, unreadable })
        stale ||= !same || files.size < before
      }
    }
  })
}) {
  static readonly layer = Layer.effect(this, this.make)
}

/** The report, as it is written. Paths are relative to `root`. */
export interface Report {
  readonly root: string
  readonly files: ReadonlyArray<{ readonly path: string } & Omit<Counted, "common">>
  readonly failures: ReadonlyArray<{ readonly path: string; readonly reason: string }>
  readonly totals: Readonly<Record<"files" | "failures" | "skipped" | "bytes" | "lines" | "words", number>>
}

const reasonOf = (error: Failure): string => {
  const { _tag, ...more } = error._tag === "TaskFailure" ? error.reason : error
  return "code" in more ? `${_tag} (${more.code})` : _tag
}

const byPath = <A extends { readonly path: string }>(all: ReadonlyArray<A>) =>
  all.toSorted((a, b) => (a.path < b.path ? -1 : 1))

export const makeReport = (root: string, ledger: Ledger["Service"]): Report => {
  const { skipped, unreadable } = ledger.rest()
  const files: Array<Report["files"][number]> = []
  const failures = unreadable.map(({ error, path }) => ({ path, reason: reasonOf(error) }))
  const totals = { files: 0, failures: 0, skipped, bytes: 0, lines: 0, words: 0 }
  for (const [path, { outcome }] of ledger.files) {
    if (Result.isFailure(outcome)) failures.push({ path, reason: reasonOf(outcome.failure) })
    else {
      const { common: _, ...counted } = outcome.success
      files.push({ path, ...counted })
      totals.bytes += counted.bytes
      totals.lines += counted.lines
      totals.words += counted.words
    }
  }
  Object.assign(totals, { files: files.length, failures: failures.length })
  return { root, files: byPath(files), failures: byPath(failures), totals }
}

export class ReportNotWritten extends Schema.TaggedError<ReportNotWritten>()("ReportNotWritten", {
  message: Schema.String
}) {}

/** Where a report is written before it takes its place. */
export const temporary = (file: string): string => `${file}.${process.pid}.tmp`

/** Writes the report so that there is the old one or the new one at any time; its text. */
export const writeReport = Effect.fnUntraced(
  function*(file: string, report: Report) {
    const fs = yield* FileSystem.FileSystem
    const text = `${JSON.stringify(report, null, 2)}\n`
    yield* fs.writeFileString(temporary(file), text).pipe(
      Effect.andThen(fs.rename(temporary(file), file)),
      Effect.onExit((exit) => exit._tag === "Success" ? Effect.void : Effect.ignore(fs.remove(temporary(file))))
    )
    return text
  },
  (effect, file) =>
    Effect.catchTag(
      effect,
      "PlatformError",
      ({ reason }) => new ReportNotWritten({ message: `the report cannot be written to ${file}: ${reason._tag}` })
    )
)

const top = <A>(all: Iterable<A>, size: (one: A) => number, count: number) =>
  Array.from(all).toSorted((a, b) => size(b) - size(a)).slice(0, count)

/** How headings are shown. */
export type Bold = (text: string) => string

/** Lines for a person who reads a terminal of this width. */
export const summary =
  ({ failures, files, totals }: Report, ledger: Ledger["Service"]) => (columns: number, bold: Bold) => {
    const words = new Map<string, number>()
    for (const { outcome } of ledger.files.values()) {
      if (Result.isFailure(outcome)) continue
      for (const [word, count] of outcome.success.common) words.set(word, (words.get(word) ?? 0) + count)
    }
    const reasons = Map.groupBy(failures, ({ reason }) => reason)
    const row = (head: string, text: string) => `${head}  ${fit(text, columns - head.length - 2)}`
    const section = (title: string, rows: ReadonlyArray<string>) =>
      rows.length === 0 ? [] : ["", bold(fit(title, columns)), ...rows]
    const counts = [
      plural(totals.files, "file"),
      plural(totals.lines, "line"),
      plural(totals.words, "word"),
      bytes(totals.bytes)
    ]
    return [
      bold(fit(counts.join(" · "), columns)),
      ...section(
        "Largest files",
        top(files, (file) => file.bytes, 5).map((file) => row(bytes(file.bytes).padStart(9), file.path))
      ),
      ...section(
        "Commonest words (of each file's ten)",
        top(words, ([, count]) => count, 5).map((
          [word, count]
        ) => row(number(count).padStart(9), word))
      ),
      ...section(
        plural(totals.failures, "failure"),
        top(reasons, ([, all]) => all.length, 10).map(([reason, all]) =>
          row(number(all.length).padStart(9), `${reason}: ${all.slice(0, 5).map(({ path }) => path).join(", ")}`)
        )
      ),
      ...(totals.skipped === 0
        ? []
        : ["", fit(`skipped: ${plural(totals.skipped, "link or special file", "links and special files")}`, columns)])
    ]
  }
