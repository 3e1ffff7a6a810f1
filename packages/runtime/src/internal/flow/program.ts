/**
 * A flow as one worker interprets it: its graph, and the options of its tasks in this worker.
 */
import { type Flow, Task } from "@effect-docket/dsl"
import * as Interpreter from "@effect-docket/dsl/Interpreter"
import type { StoredDocket } from "../../DocketStore.ts"
import type { Program } from "../worker/program.ts"

/** A flow as one worker interprets it. */
export interface FlowProgram {
  readonly graph: Interpreter.graph.Graph
  readonly store: StoredDocket
  readonly optionsOf: (task: Task.Any) => Interpreter.Resolved
  /** How long members of its gathers that failed are kept. */
  readonly kept: number
  /** What stands for the flow where a worker runs tasks. */
  readonly program: Program
}

/** Prepares a flow; its tasks are among the programs. */
export const make = (
  flow: Flow.AnyNamed,
  store: StoredDocket,
  programs: ReadonlyMap<string, Program>
): FlowProgram => {
  const graph = Interpreter.graph.graphOf(flow)
  const optionsOf = (task: Task.Any) => programs.get(task._tag)?.options ?? Interpreter.resolved(task)
  const [some] = programs.values()
  const task = Task.make(graph.name)
  return {
    graph,
    store,
    optionsOf,
    kept: Math.max(0, ...Array.from(graph.tasks.values(), (task) => optionsOf(task).retention.failure)),
    program: {
      ...some!, // a flow without tasks cannot be started
      task,
      options: Interpreter.resolved(task),
      codec: Interpreter.codec(task),
      metrics: () => {}
    }
  }
}

/** The id of a version of a flow. */
export const idOf = ({ flow, version }: { readonly flow: string; readonly version: number }): string =>
  `${version}/${flow}`
