/**
 * Pins what the compiler says about ten frequent mistakes: the message is part of the API.
 *
 * Ten programs are compiled at once, in a folder below `node_modules`, where the packages resolve as they do for users.
 */
import { execFile } from "node:child_process"
import { mkdir, mkdtemp, rm, writeFile } from "node:fs/promises"
import * as path from "node:path"
import { afterAll, assert, beforeAll, describe, it } from "vitest"

const root = path.resolve(import.meta.dirname, "..")

const fixtures = `
import { Docket, DocketError, Flow, Gather, Perpetual, Retry, Task, TaskGroup } from "@effect-docket/dsl"
import { DocketEngine, MemoryStore, Worker } from "@effect-docket/runtime"
import { Effect, Layer, Schema } from "effect"

class Busy extends Schema.TaggedError<Busy>("Busy")("Busy", { retryAfter: Schema.Duration }) {}
class Declined extends Schema.TaggedError<Declined>("Declined")("Declined", { orderId: Schema.String }) {}
class Yes extends Schema.TaggedClass<Yes>("Yes")("Yes", { id: Schema.String }) {}
class No extends Schema.TaggedClass<No>("No")("No", { id: Schema.String, why: Schema.String }) {}

class Pay extends Task.make("Pay", {
  payload: { orderId: Schema.String, amount: Schema.Int },
  success: Schema.Struct({ receipt: Schema.String }),
  error: Schema.Union([Busy, Declined])
}) {}
class Mail extends Task.make("Mail", { payload: { receipt: Schema.String }, success: Schema.Struct({ id: Schema.String }) }) {}
class Decide extends Task.make("Decide", { payload: { id: Schema.String }, success: Schema.Union([Yes, No]) }) {}
class OnYes extends Task.make("OnYes", { payload: { id: Schema.String }, success: Schema.Int }) {}
class OnNo extends Task.make("OnNo", { payload: { id: Schema.String, why: Schema.String } }) {}
class Items extends Task.make("Items", { payload: { id: Schema.String }, success: Schema.Array(Schema.Struct({ receipt: Schema.String })) }) {}
class Tick extends Task.make("Tick", { perpetual: { every: "1 minute", automatic: true } }) {}
class Shop extends TaskGroup.make(Pay, Mail) {}
`

interface Mistake {
  readonly name: string
  readonly program: string
  readonly message: string
}

const mistakes: ReadonlyArray<Mistake> = [
  {
    name: "a retry rule is missing",
    program:
      `Task.make("T", { error: Schema.Union([Busy, Declined]), retry: { Busy: (e) => Retry.snooze(e.retryAfter) } })`,
    message: `
error TS2322: Type '{ Busy: (e: Busy) => Snooze; }' is not assignable to type 'Policy<Busy | Declined> | undefined'.
  Property 'Declined' is missing in type '{ Busy: (e: Busy) => Snooze; }' but required in type 'Rules<Busy | Declined>'.`
  },
  {
    name: "a handler of a group is missing",
    program: `Shop.toLayer({ Pay: () => Effect.succeed({ receipt: "r" }) })`,
    message: `
error TS2345: Argument of type '{ Pay: () => Effect.Effect<{ receipt: string; }, never, never>; }' is not assignable to parameter of type 'Effect<HandlersFrom<typeof Pay | typeof Mail>, never, never> | HandlersFrom<typeof Pay | typeof Mail>'.
  Property 'Mail' is missing in type '{ Pay: () => Effect.Effect<{ receipt: string; }, never, never>; }' but required in type 'HandlersFrom<typeof Pay | typeof Mail>'.`
  },
  {
    name: "a worker has no handlers",
    program: `
const Engine = DocketEngine.layer({ name: "shop" }).pipe(Layer.provide(MemoryStore.layer))
export const worker: Layer.Layer<never, DocketError.DocketError> = Worker.layer(Shop).pipe(Layer.provide(Engine))`,
    message: `
error TS2375: Type 'Layer<never, DocketError, Handler<"Mail"> | Handler<"Pay">>' is not assignable to type 'Layer<never, DocketError, never>' with 'exactOptionalPropertyTypes: true'. Consider adding 'undefined' to the types of the target's properties.
  Type 'Handler<"Mail"> | Handler<"Pay">' is not assignable to type 'never'.
    Type 'Handler<"Mail">' is not assignable to type 'never'.`
  },
  {
    name: "a handler enqueues a task that nobody handles",
    program: `
const floods = Tick.toLayer(() => Effect.asVoid(Effect.orDie(Docket.add(OnYes, { id: "1" }))))
export const orphan: Layer.Layer<Task.Handler<"Tick">, never, Docket.Docket> = floods.pipe(Layer.provide(Shop.client))`,
    message: `
error TS2375: Type 'Layer<Handler<"Tick">, never, Docket | Enqueue<"OnYes">>' is not assignable to type 'Layer<Handler<"Tick">, never, Docket>' with 'exactOptionalPropertyTypes: true'. Consider adding 'undefined' to the types of the target's properties.
  Type 'Docket | Enqueue<"OnYes">' is not assignable to type 'Docket'.
    Type 'Enqueue<"OnYes">' is missing the following properties from type 'Docket': Service, [ServiceTypeId], key`
  },
  {
    name: "an edge of a flow does not fit",
    program: `Pay.pipe(Flow.andThen(Decide))`,
    message: `
error TS2345: Argument of type 'typeof Decide' is not assignable to parameter of type 'typeof Decide & Mismatch<"the output of the previous step does not fit the input of the next step", NoInfer<{ readonly receipt: string; }>, { readonly id: string; }>'.
  Type 'typeof Decide' is missing the following properties from type 'Mismatch<"the output of the previous step does not fit the input of the next step", NoInfer<{ readonly receipt: string; }>, { readonly id: string; }>': "~message", "~given", "~wanted"`
  },
  {
    name: "a case is missing",
    program: `Decide.pipe(Flow.match({ Yes: OnYes }))`,
    message: `
error TS2345: Argument of type '{ Yes: typeof OnYes; }' is not assignable to parameter of type 'Cases<No | Yes> & CasesFit<No | Yes, Cases<No | Yes>>'.
  Property 'No' is missing in type '{ Yes: typeof OnYes; }' but required in type 'Cases<No | Yes>'.`
  },
  {
    name: "a case does not accept its member",
    program: `Decide.pipe(Flow.match({ Yes: OnNo, No: OnNo }))`,
    message: `
error TS2322: Type 'typeof OnNo' is not assignable to type 'typeof OnNo & Mismatch<"the output of the previous step does not fit the input of the next step", Yes, { readonly id: string; readonly why: string; }>'.
  Type 'typeof OnNo' is missing the following properties from type 'Mismatch<"the output of the previous step does not fit the input of the next step", Yes, { readonly id: string; readonly why: string; }>': "~message", "~given", "~wanted"`
  },
  {
    name: "a fan-in has no deadline",
    program: `Items.pipe(Flow.forEach(Mail, { policy: Gather.allSettled }))`,
    message: `
error TS2345: Argument of type 'Flow<{ readonly receipt: string; }, readonly unknown[], unknown, string, unknown>' is not assignable to parameter of type '(_: typeof Items) => never'.
  Type 'Flow<{ readonly receipt: string; }, readonly unknown[], unknown, string, unknown>' provides no match for the signature '(_: typeof Items): never'.
error TS2769: No overload matches this call.
  The last overload gave the following error.
    Argument of type '{ policy: Gather.AllSettled; }' is not assignable to parameter of type 'ForEachOptions<AllSettled, (value: readonly { readonly receipt: string; }[]) => readonly { readonly receipt: string; }[]>'.
      Property 'deadline' is missing in type '{ policy: Gather.AllSettled; }' but required in type '{ readonly deadline: Input; }'.`
  },
  {
    name: "the payload of an automatic task cannot be built from nothing",
    program: `Task.make("T", { payload: { id: Schema.String }, perpetual: { every: "1 minute", automatic: true } })`,
    message: `
error TS2322: Type '{ every: "1 minute"; automatic: true; }' is not assignable to type '{ readonly every: "1 minute"; readonly automatic: true; } & {} & Mismatch<"an automatic perpetual task needs a payload that can be built from nothing: give every field a default", { ...; }, {}>'.
  Type '{ every: "1 minute"; automatic: true; }' is missing the following properties from type 'Mismatch<"an automatic perpetual task needs a payload that can be built from nothing: give every field a default", { readonly id: string; }, {}>': "~message", "~given", "~wanted"`
  },
  {
    name: "the handler of an ordinary task uses Perpetual",
    program: `
export const mail: Layer.Layer<Task.Handler<"Mail">> = Mail.toLayer(() => Perpetual.Perpetual.use((p) => Effect.as(p.cancel, { id: "" })))`,
    message: `
error TS2375: Type 'Layer<Handler<"Mail">, never, Perpetual>' is not assignable to type 'Layer<Handler<"Mail">, never, never>' with 'exactOptionalPropertyTypes: true'. Consider adding 'undefined' to the types of the target's properties.
  Type 'Perpetual' is not assignable to type 'never'.`
  }
]

/** Runs the compiler of the workspace in `folder` and returns what it prints. */
const tsc = (folder: string): Promise<string> => {
  const bin = path.join(root, "node_modules/typescript/bin/tsc")
  return new Promise((resolve) => {
    execFile(process.execPath, [bin, "-p", ".", "--pretty", "false"], { cwd: folder }, (_, stdout) => resolve(stdout))
  })
}

/** The messages about each of our files, without positions. What the compiler says about other files is not ours. */
const byFile = (output: string): Map<string, string> => {
  const messages = new Map<string, string>()
  let file: string | undefined
  for (const line of output.split("\n")) {
    const start = /^(\S+)\(\d+,\d+\): (.*)$/.exec(line)
    file = start === null ? file : start[1]
    if (file !== undefined && line !== "") messages.set(file, `${messages.get(file) ?? ""}\n${start?.[2] ?? line}`)
  }
  return messages
}

describe("compiler messages", () => {
  let folder: string
  let messages: Map<string, string>

  beforeAll(async () => {
    const cache = path.join(root, "node_modules/.cache")
    await mkdir(cache, { recursive: true })
    folder = await mkdtemp(path.join(cache, "compiler-messages-"))
    const compilerOptions = {
      composite: false,
      incremental: false,
      declarationMap: false,
      noEmit: true,
      noUnusedLocals: false,
      rootDir: root,
      types: ["node"]
    }
    const config = { extends: path.join(root, "tsconfig.base.json"), include: ["*.ts"], exclude: [], compilerOptions }
    await writeFile(path.join(folder, "tsconfig.json"), JSON.stringify(config))
    await Promise.all(mistakes.map(({ program }, i) => writeFile(path.join(folder, `${i}.ts`), fixtures + program)))
    messages = byFile(await tsc(folder))
  })

  afterAll(() => rm(folder, { recursive: true, force: true }))

  it.each(mistakes.map((mistake, i) => ({ ...mistake, file: `${i}.ts` })))("$name", ({ file, message }) => {
    assert.strictEqual(messages.get(file), message)
  })
})
