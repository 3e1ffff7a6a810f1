/**
 * Map and reduce over files: one run per file counts its words, on whichever worker is free, and one step adds them up when
 * the last of them has ended.
 *
 * Nothing large travels: the payloads are paths, and what a file comes to is a small record. Files that cannot be counted are
 * entries of what is gathered, so the result says what is missing in it. A file that is counted by a worker that dies is
 * counted again by another one; the sum is made once.
 *
 * The files are real, in a folder that the program makes and removes, and so is the time.
 */
import { Docket, Flow, Gather, Task, TaskGroup } from "@effect-docket/dsl"
import { DocketEngine, Worker } from "@effect-docket/runtime"
import * as NodeServices from "@effect/platform-node/NodeServices"
import { Console, Effect, FileSystem, Layer, Logger, Path, Schema } from "effect"

class NotText extends Schema.TaggedError<NotText>()("NotText", { file: Schema.String }) {}

const Counts = Schema.Record(Schema.String, Schema.Int)
class ListFiles extends Task.make("ListFiles", {
  payload: { folder: Schema.String },
  success: Schema.Array(Schema.Struct({ file: Schema.String }))
}) {}
class CountWords extends Task.make("CountWords", {
  payload: { file: Schema.String },
  success: Counts,
  error: NotText
}) {}
class AddUp extends Task.make("AddUp", {
  payload: { files: Gather.schema(CountWords) },
  success: Schema.Struct({ counts: Counts, missing: Schema.Array(Schema.String) })
}) {}
class Words extends TaskGroup.make(ListFiles, CountWords, AddUp) {}

class WordCount extends Flow.make(
  "WordCount",
  ListFiles.pipe(
    Flow.forEach(CountWords, { policy: Gather.allSettled, deadline: "1 hour" }),
    Flow.andThen(AddUp, (files) => ({ files }))
  ),
  { key: ({ folder }) => `words/${folder}` }
) {}

const WordsLive = Words.toLayer(Effect.gen(function*() {
  const fs = yield* FileSystem.FileSystem
  const path = yield* Path.Path
  return Words.of({
    ListFiles: ({ folder }) =>
      Effect.map(
        Effect.orDie(fs.readDirectory(folder)),
        (names) => names.toSorted().map((name) => ({ file: path.join(folder, name) }))
      ),
    CountWords: Effect.fnUntraced(function*({ file }) {
      const text = yield* Effect.orDie(fs.readFileString(file))
      if (text.includes("\0")) return yield* new NotText({ file: path.basename(file) })
      const counts: Record<string, number> = {}
      for (const [word] of text.toLowerCase().matchAll(/\p{L}+/gu)) counts[word] = (counts[word] ?? 0) + 1
      return counts
    }),
    AddUp: ({ files }) => {
      const counts: Record<string, number> = {}
      for (const of of Gather.successes(files)) {
        for (const [word, n] of Object.entries(of)) counts[word] = (counts[word] ?? 0) + n
      }
      return Effect.succeed({ counts, missing: Gather.failures(files).map(({ file }) => file) })
    }
  })
}))

const program = Effect.gen(function*() {
  const fs = yield* FileSystem.FileSystem
  const path = yield* Path.Path
  const folder = yield* fs.makeTempDirectoryScoped({ prefix: "map-reduce-" })
  for (let i = 0; i < 200; i++) {
    yield* fs.writeFileString(path.join(folder, `${i}.txt`), `The quick fox number ${i} and the lazy dog`)
  }
  yield* fs.writeFileString(path.join(folder, "photo.raw"), "\0\0\0")

  const run = yield* Docket.start(WordCount, { folder })
  const { counts, missing } = yield* run.await
  const most = Object.entries(counts).toSorted(([a, n], [b, m]) => m - n || a.localeCompare(b)).slice(0, 4)
  yield* Console.log(most.map(([word, n]) => `${word} ${n}`).join(", "))
  yield* Console.log(`missing: ${missing}`)
}).pipe(Effect.scoped)

await Effect.runPromise(Effect.provide(
  program,
  Worker.layer(Words, { flows: [WordCount] }).pipe(
    Layer.provide(WordsLive),
    Layer.provideMerge(Words.client),
    Layer.provide(DocketEngine.layerMemory),
    Layer.provideMerge(NodeServices.layer),
    Layer.provideMerge(Logger.layer([])) // a file that cannot be counted is logged at error
  )
))

/* prints
the 400, and 200, dog 200, fox 200
missing: photo.raw
*/
