/**
 * A flow as a Mermaid flowchart (https://mermaid.js.org/syntax/flowchart.html).
 *
 * Tasks are boxes, decisions diamonds, fan-out and fan-in trapezoids, waits hexagons. What catches an error or limits
 * the time of several steps is drawn around them. Dotted edges are taken after a failure. `map` and `mapInput` are not
 * shown: they run nothing.
 */
import * as Context from "effect/Context"
import * as Duration from "effect/Duration"
import type { StepState } from "../Flow.ts"
import type * as Gather from "../Gather.ts"
import * as flow from "./flow.ts"
import * as options from "./options.ts"

/** A box, or a frame around others, as lines. */
interface Block {
  readonly id: string
  readonly lines: ReadonlyArray<string>
}

/** An edge that has no end yet; a dotted one is taken after a failure. */
interface Exit {
  readonly from: string
  readonly label?: string
  readonly dotted?: true
}

/** A chain that is drawn: its blocks, and the edges that leave it. */
interface Drawing {
  readonly blocks: ReadonlyArray<Block>
  readonly exits: ReadonlyArray<Exit>
}

/**
 * Quotes text. What could end the quotes, start an entity, a comment or markup, or be read as one by the passes that
 * Mermaid makes over the whole source before it parses, becomes the number of its character.
 */
const quote = (...lines: ReadonlyArray<string>): string => {
  const text = lines.map((line) =>
    line.toWellFormed().replace(/[\p{C}\p{Z}]+/gu, " ").replace(
      /[!-/:-@[-`{-~]/g,
      (char) => plain.has(char) ? char : `#${char.charCodeAt(0)};`
    )
  ).join("<br/>")
  return `"${text === "" ? " " : text}"`
}
const plain = new Set("-.,()/_")

/** An id of letters, digits and `_` that no other path has: `__` for a slash, the code of other characters. */
const idOf = (path: string): string =>
  `n${path.replace(/[^A-Za-z0-9]/g, (char) => char === "/" ? "__" : `_${char.charCodeAt(0).toString(16)}_`)}`

const duration = (millis: number): string => Duration.format(Duration.millis(millis))
const wait = (wait: flow.Wait): string => typeof wait === "number" ? duration(wait) : "a computed time"

const policy = (policy: Gather.Policy): string => {
  switch (policy._tag) {
    case "AllSucceed":
      return "all succeed"
    case "AllSettled":
      return "all settled"
    case "Quorum":
      return `quorum of ${policy.atLeast}`
  }
}

const fanOut = (node: flow.ForEachNode): ReadonlyArray<string> => [
  "for each item",
  ...(node.over === undefined ? [] : [`over ${duration(node.over)}`]),
  ...(node.jitter === undefined ? [] : [`jitter ${duration(node.jitter)}`]),
  ...(node.concurrency === undefined ? [] : [`at most ${node.concurrency} at once`])
]

const fanIn = (node: flow.ForEachNode): ReadonlyArray<string> => [
  policy(node.policy),
  ...(node.deadline === undefined ? [] : [`deadline ${duration(node.deadline)}`]),
  ...(node.onRelease === "cancelRest" ? ["then cancel the rest"] : [])
]

const frame = (id: string, title: string, blocks: ReadonlyArray<Block>): Block => ({
  id,
  lines: [
    `subgraph ${id}[${quote(title)}]`,
    ...blocks.flatMap((block) => block.lines.map((line) => `  ${line}`)),
    "end"
  ]
})

const title = (node: flow.NamedNode): string => {
  const version = Context.get(node.annotations, options.Version)
  return version === 1 ? node.name : `${node.name}, version ${version}`
}

const colours: Readonly<Record<StepState, string>> = {
  Waiting: "fill:#ffffff,stroke:#8a8a8a,color:#333333",
  Active: "fill:#fff3bf,stroke:#b08900,color:#333333",
  Done: "fill:#d3f9d8,stroke:#2b8a3e,color:#333333",
  Failed: "fill:#ffe3e3,stroke:#c92a2a,color:#333333",
  Cancelled: "fill:#e5dbff,stroke:#5f3dc4,color:#333333",
  Skipped: "fill:#f1f3f5,stroke:#ced4da,color:#adb5bd"
}

/** The flowchart of a flow. */
export const render = (root: flow.Node, steps?: ReadonlyMap<string, StepState>): string => {
  const coloured = new Map<StepState, Array<string>>()
  // edges come after all blocks: an edge inside of a frame would draw its ends into the frame
  const edges: Array<string> = []
  const connect = (exits: ReadonlyArray<Exit>, to: string) => {
    for (const { dotted, from, label } of exits) {
      edges.push(`${from} ${dotted ? "-.->" : "-->"}${label === undefined ? "" : `|${quote(label)}|`} ${to}`)
    }
  }

  const draw = (scope: string, last: flow.Node, entries: ReadonlyArray<Exit>, start: string): Drawing => {
    let blocks: Array<Block> = []
    let exits = entries
    const place = (id: string, shape: string, path: string) => {
      const state = steps?.get(path)
      if (state !== undefined) coloured.set(state, [...coloured.get(state) ?? [], id])
      blocks.push({ id, lines: [id + shape] })
      connect(exits, id)
      exits = [{ from: id }]
    }
    flow.chain(last).forEach((node, index) => {
      const path = flow.position(scope, index)
      const id = idOf(path)
      const child = (name: string | undefined, last: flow.Node, entries: ReadonlyArray<Exit>) => {
        const drawing = draw(flow.scope(path, name), last, entries, start)
        blocks.push(...drawing.blocks)
        return drawing.exits
      }
      switch (node._tag) {
        case "Input":
        case "Map":
          break
        case "Task":
          place(id, `[${quote(node.task._tag)}]`, path)
          break
        case "MapInput":
          exits = child(undefined, node.flow, exits)
          break
        case "AndThen":
          exits = child(undefined, node.next, exits)
          break
        case "Named": {
          const entry = `${id}__start`
          connect(exits, entry)
          const drawing = draw(path, node.flow, [{ from: entry }], entry)
          blocks.push(frame(id, title(node), [{ id: entry, lines: [`${entry}(["start"])`] }, ...drawing.blocks]))
          exits = drawing.exits
          break
        }
        case "Again":
          place(id, `{{${quote("again", `after ${wait(node.after)}`)}}}`, path)
          connect(exits, start)
          exits = []
          break
        case "Sleep":
          place(id, `{{${quote(`sleep ${wait(node.duration)}`)}}}`, path)
          break
        case "Match":
          place(id, `{"match"}`, path)
          exits = [...node.cases].flatMap(([name, last]) => child(name, last, [{ from: id, label: name }]))
          break
        case "When":
          place(id, `{"when"}`, path)
          exits = [...child(undefined, node.next, [{ from: id, label: "yes" }]), { from: id, label: "no" }]
          break
        case "All":
        case "Outcomes":
          place(id, node._tag === "All" ? `[/"all"\\]` : `[/"outcomes"\\]`, path)
          exits = [...node.branches].flatMap(([name, last]) => child(name, last, [{ from: id, label: name }]))
          place(`${id}__join`, node._tag === "All" ? `[\\"all succeed"/]` : `[\\"all settled"/]`, path)
          break
        case "ForEach":
          place(id, `[/${quote(...fanOut(node))}\\]`, path)
          exits = child(undefined, node.next, exits)
          place(`${id}__join`, `[\\${quote(...fanIn(node))}/]`, path)
          break
        case "CatchTags": {
          if (blocks.length > 1) blocks = [frame(id, "try", blocks)]
          const sources = blocks.length === 0 ? exits : [{ from: blocks[0]!.id }]
          exits = [
            ...exits,
            ...[...node.handlers].flatMap(([name, last]) =>
              child(name, last, sources.map(({ from }) => ({ from, label: name, dotted: true })))
            )
          ]
          break
        }
        case "Compensate":
          child(undefined, node.undo, exits.map(({ from }) => ({ from, label: "undo", dotted: true })))
          break
        case "Deadline":
          if (blocks.length > 0) blocks = [frame(id, `deadline ${duration(node.limit)}`, blocks)]
          break
      }
    })
    return { blocks, exits }
  }

  const named = root._tag === "Named"
  const { blocks, exits } = draw("", named ? root.flow : root, [{ from: "start" }], "start")
  connect(exits, "finish")
  return [
    "flowchart TD",
    `  start([${quote(named ? title(root) : "start")}])`,
    ...blocks.flatMap((block) => block.lines.map((line) => `  ${line}`)),
    ...(exits.length === 0 ? [] : [`  finish(["end"])`]),
    ...edges.map((edge) => `  ${edge}`),
    ...Array.from(coloured.keys(), (state) => `  classDef ${state} ${colours[state]}`),
    ...Array.from(coloured, ([state, ids]) => `  class ${ids.join(",")} ${state}`)
  ].join("\n")
}
