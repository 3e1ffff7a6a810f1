/**
 * What the tasks do to files, without a docket: find them, and count one of them. Shown here: plain Effect functions with
 * typed failures, which is all that a handler needs.
 *
 * Paths are relative, with `/`. A name that is not UTF-8 keeps its bytes: they become the code units U+DC80 to U+DCFF,
 * as in Python, which no valid text contains and which JSON carries as escapes.
 */
import { Effect, Schedule, Schema } from "effect"
import { createHash } from "node:crypto"
import { constants, type Dirent } from "node:fs"
import * as fs from "node:fs/promises"

/** The system is short of something, or somebody holds the file: another try may do. */
export class Busy extends Schema.TaggedError<Busy>()("Busy", { code: Schema.String }) {}
/** Another try will not do: no permission, a disk error, a path that is too long. */
export class Unreadable extends Schema.TaggedError<Unreadable>()("Unreadable", { code: Schema.String }) {}
/** It contains a NUL byte. */
export class Binary extends Schema.TaggedError<Binary>()("Binary", {}) {}
/** It was there when the folder was searched, and is not any more. */
export class Vanished extends Schema.TaggedError<Vanished>()("Vanished", {}) {}

/** When something `Busy` is asked again. With chance in it, so that those who met do not meet again. */
export const patience = Schedule.min([Schedule.exponential("50 millis"), Schedule.spaced("2 seconds")]).pipe(
  Schedule.jittered,
  Schedule.upTo({ times: 20 })
)

const passing = new Set(["EAGAIN", "EBUSY", "EINTR", "EMFILE", "ENFILE", "ENOMEM", "ETXTBSY"])
const gone = new Set(["ELOOP", "ENOENT", "ENOTDIR"])

const attempt = <A>(operation: () => Promise<A>): Effect.Effect<A, Busy | Unreadable | Vanished> =>
  Effect.tryPromise({
    try: operation,
    catch: (cause) => {
      const { code = "EUNKNOWN" } = cause as NodeJS.ErrnoException // what node:fs rejects with
      return gone.has(code) ? new Vanished() : passing.has(code) ? new Busy({ code }) : new Unreadable({ code })
    }
  })

const toPath = (bytes: Buffer): string => {
  const text = bytes.toString()
  return Buffer.from(text).equals(bytes)
    ? text
    : Array.from(bytes, (byte) => String.fromCharCode(byte < 0x80 ? byte : byte + 0xdc00)).join("")
}

/** The bytes of `path` under `root`. */
export const toBytes = (root: string, path: string): Buffer =>
  Buffer.concat([
    Buffer.from(path === "" ? root : `${root}/`),
    path.isWellFormed() ? Buffer.from(path) : Buffer.from(Array.from(path, (unit) => unit.charCodeAt(0) & 0xff))
  ])

/** A version of a file: its path, and when it was modified, in nanoseconds. */
export interface Found {
  readonly path: string
  readonly modified: bigint
}

/** What a search finds: files, folders that cannot be read, and how many links, sockets, pipes and devices there are. */
export interface Search {
  readonly files: ReadonlyArray<Found>
  readonly unreadable: ReadonlyArray<{ readonly path: string; readonly error: Busy | Unreadable }>
  readonly skipped: number
}

/** Searches `root` for files, but for those of `except`. Links are not followed, so there are no cycles. */
export const find = Effect.fnUntraced(function*(root: string, except: ReadonlyArray<string>): Effect.fn.Return<Search> {
  const files: Array<Found> = []
  const unreadable: Array<Search["unreadable"][number]> = []
  let skipped = 0
  const own = except.map((path) => Buffer.from(path))
  const pending = [toBytes(root, "")]
  const relative = (bytes: Buffer) => toPath(bytes.subarray(Buffer.byteLength(root) + 1))
  for (let folder = pending.pop(); folder !== undefined; folder = pending.pop()) {
    const here = folder
    const entries = yield* attempt(() => fs.readdir(here, { withFileTypes: true, encoding: "buffer" })).pipe(
      Effect.retry({ schedule: patience, while: (error) => error._tag === "Busy" }),
      Effect.catchTag(["Busy", "Unreadable"], (error) => {
        unreadable.push({ path: relative(here) || ".", error })
        return Effect.succeed([])
      }),
      Effect.catchTag("Vanished", () => Effect.succeed([]))
    )
    const visit = (entry: Dirent<Buffer>): Effect.Effect<void> => {
      const bytes = Buffer.concat([here, Buffer.from("/"), entry.name])
      if (entry.isDirectory()) pending.push(bytes)
      else if (!entry.isFile()) skipped++
      else if (!own.some((path) => path.equals(bytes))) {
        return attempt(() => fs.lstat(bytes, { bigint: true })).pipe(
          // whatever is the matter with it, reading it will tell
          Effect.match({ onSuccess: ({ mtimeNs }) => mtimeNs, onFailure: () => 0n }),
          Effect.map((modified) => {
            files.push({ path: relative(bytes), modified })
          })
        )
      }
      return Effect.void
    }
    yield* Effect.forEach(entries, visit, { concurrency: 16, discard: true })
  }
  return { files, unreadable, skipped }
})

/** What is counted of a file. `common`: its commonest words of four letters and more. */
export const Counted = Schema.Struct({
  sha256: Schema.String,
  bytes: Schema.Int,
  lines: Schema.Int,
  words: Schema.Int,
  common: Schema.Array(Schema.Tuple([Schema.String, Schema.Int]))
})
export type Counted = typeof Counted.Type

// Lines and words are those of `wc` in the C locale: newline bytes, and runs without white space in which at least one
// byte is printable.
const space = 1
const printable = 2
const kind = Uint8Array.from(
  { length: 256 },
  (_, byte) => byte === 0x20 || (byte >= 0x09 && byte <= 0x0d) ? space : byte > 0x20 && byte < 0x7f ? printable : 0
)

// 64 KiB is where larger reads stop being faster. A file of random letters must not fill the memory with its words.
const chunkSize = 65_536
const vocabulary = 50_000
const commonest = 10

const counter = () => {
  const hash = createHash("sha256")
  const decoder = new TextDecoder()
  const vocable = new Map<string, number>()
  let [bytes, lines, words, inWord, rest] = [0, 0, 0, false, ""]
  const learn = (text: string) => {
    for (const [word] of text.matchAll(/\p{L}{4,40}/gu)) {
      const known = vocable.get(word)
      if (known !== undefined) vocable.set(word, known + 1)
      else if (vocable.size < vocabulary) vocable.set(word, 1)
    }
  }
  return {
    add: (chunk: Uint8Array) => {
      hash.update(chunk)
      bytes += chunk.length
      for (const byte of chunk) {
        if (byte === 0x0a) lines++
        const is = kind[byte]
        if (is === space) inWord = false
        else if (is === printable && !inWord) {
          inWord = true
          words++
        }
      }
      const text = rest + decoder.decode(chunk, { stream: true }).toLowerCase()
      const end = text.search(/\p{L}{0,40}$/u) // the last word may go on in the next chunk
      learn(text.slice(0, end))
      rest = text.slice(end)
    },
    result: (): Counted => {
      learn(rest)
      const common = Array.from(vocable).toSorted(([a, m], [b, n]) => n - m || (a < b ? -1 : 1)).slice(0, commonest)
      return { sha256: hash.digest("hex"), bytes, lines, words, common }
    }
  }
}

/** Counts a file piece by piece. */
export const count = (file: Buffer): Effect.Effect<Counted, Busy | Unreadable | Binary | Vanished> =>
  Effect.acquireUseRelease(
    // NOFOLLOW and NONBLOCK: what was a file may have become a link or a pipe, which would hold a thread for ever
    attempt(() => fs.open(file, constants.O_RDONLY | (constants.O_NOFOLLOW ?? 0) | (constants.O_NONBLOCK ?? 0))),
    Effect.fnUntraced(function*(handle) {
      const stat = yield* attempt(() => handle.stat())
      if (!stat.isFile()) return yield* new Vanished()
      const counting = counter()
      // one byte more than a small file has, which may have grown meanwhile
      const buffer = Buffer.allocUnsafeSlow(Math.min(stat.size + 1, chunkSize))
      while (true) {
        const { bytesRead } = yield* attempt(() => handle.read(buffer, 0, buffer.length))
        if (bytesRead === 0) return counting.result()
        const chunk = buffer.subarray(0, bytesRead)
        if (chunk.includes(0)) return yield* new Binary()
        counting.add(chunk)
      }
    }),
    (handle) => Effect.ignore(attempt(() => handle.close()))
  )
