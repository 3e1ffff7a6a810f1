/**
 * The values of an agenda: batches, and plans.
 *
 * A batch is a tree of the lists it was made from, so that appending costs the same however long it is, and shares what
 * was there before. It becomes one list when it is first read.
 *
 * Which task an item belongs to is known to the types of the caller only; here every batch is one of any tasks, and
 * `Batch<never>` (a batch of each type, as `Batch` is covariant) where it is handed out.
 */
import { pipeArguments } from "effect/Pipeable"
import * as Predicate from "effect/Predicate"
import type * as Agenda from "../Agenda.ts"
import type * as Task from "../Task.ts"
import type { Interval } from "./agendaWindow.ts"
import type { EncodedAddition } from "./wire.ts"

export const TypeId = "~@effect-docket/dsl/Agenda" as const

/** An item of any task. */
export type AnyItem = Agenda.Item<Task.Any>
/** A slot of any task. */
export type AnySlot = Agenda.Slot<Task.Any>

/** What a plan knows about an item: what the user sees of it, and what is written. */
export interface Planned {
  readonly item: AnyItem
  readonly slot: AnySlot
  /** Its time is absolute, and the options are those of the task alone: a permission adds those of its group. */
  readonly addition: EncodedAddition
  /** Its key was made for it, and is that of no other run. */
  readonly isUnique: boolean
  /** It was sent, and the answer was lost: it may have been written, and may even have run. */
  readonly inDoubt?: boolean
}

/** What a plan knows beside its items. */
export interface Origin {
  /** The present, for a plan that is written as it is made, and reported as it was planned. */
  readonly now?: number | undefined
  /** The period that was shared out, and the open times of it; for those who look at the plan. */
  readonly period?: { readonly whole: Interval; readonly open: ReadonlyArray<Interval> } | undefined
}

type Tree = { readonly items: ReadonlyArray<AnyItem> } | { readonly left: Tree; readonly right: Tree }

/** The items of a tree in their order; with a stack of its own, as batches built by `add` are as deep as they are long. */
const flatten = (tree: Tree): ReadonlyArray<AnyItem> => {
  if ("items" in tree) return tree.items
  const all: Array<AnyItem> = []
  const rest: Array<Tree> = [tree]
  for (let next = rest.pop(); next !== undefined; next = rest.pop()) {
    if ("items" in next) { for (const item of next.items) all.push(item) }
    else rest.push(next.right, next.left)
  }
  return all
}

class BatchImpl implements Agenda.Batch<Task.Any> {
  readonly [TypeId]: typeof TypeId = TypeId
  declare readonly "~tasks": never
  readonly length: number
  // private, so that printing a batch does not print its tree
  #tree: Tree

  constructor(tree: Tree, length: number) {
    this.#tree = tree
    this.length = length
  }

  static tree(self: BatchImpl): Tree {
    return self.#tree
  }

  static items(self: BatchImpl): ReadonlyArray<AnyItem> {
    const items = flatten(self.#tree)
    self.#tree = { items }
    return items
  }

  [Symbol.iterator](): Iterator<AnyItem> {
    return BatchImpl.items(this)[Symbol.iterator]()
  }

  pipe() {
    return pipeArguments(this, arguments)
  }
}

class PlanImpl extends BatchImpl implements Agenda.Plan<Task.Any> {
  readonly slots: ReadonlyArray<AnySlot>
  // private, because the text of a payload holds in clear what a payload may hide
  readonly #planned: ReadonlyArray<Planned>
  readonly #origin: Origin

  constructor(planned: ReadonlyArray<Planned>, origin: Origin) {
    super({ items: planned.map(({ item }) => item) }, planned.length)
    this.slots = planned.map(({ slot }) => slot)
    this.#planned = planned
    this.#origin = origin
  }

  static planned(self: PlanImpl): ReadonlyArray<Planned> {
    return self.#planned
  }

  static origin(self: PlanImpl): Origin {
    return self.#origin
  }
}

/** Whether a value is a batch. */
export const isBatch = (u: unknown): u is Agenda.Batch<Task.Any> => Predicate.hasProperty(u, TypeId)

const impl = (self: Agenda.Batch<Task.Any>): BatchImpl => self as BatchImpl // there is no other implementation

/** A batch of these items. */
export const fromItems = (items: ReadonlyArray<AnyItem>): Agenda.Batch<never> =>
  new BatchImpl({ items }, items.length) as Agenda.Batch<never> // see the header

/** Both batches, one after the other. */
export const concat = (left: Agenda.Batch<Task.Any>, right: Agenda.Batch<Task.Any>): Agenda.Batch<never> =>
  new BatchImpl(
    { left: BatchImpl.tree(impl(left)), right: BatchImpl.tree(impl(right)) },
    left.length + right.length
  ) as Agenda.Batch<never> // see the header

/** The items of a batch. */
export const items = (self: Agenda.Batch<Task.Any>): ReadonlyArray<AnyItem> => BatchImpl.items(impl(self))

/** A plan of these. */
export const fromPlanned = (planned: ReadonlyArray<Planned>, origin: Origin = {}): Agenda.Plan<never> =>
  new PlanImpl(planned, origin) as Agenda.Plan<Task.Any> as Agenda.Plan<never> // see the header

const planImpl = (self: Agenda.Plan<Task.Any>): PlanImpl => self as Agenda.Batch<Task.Any> as PlanImpl // as `impl`

/** What a plan was made of. */
export const planned = (self: Agenda.Plan<Task.Any>): ReadonlyArray<Planned> => PlanImpl.planned(planImpl(self))

/** What a plan knows beside its items. */
export const origin = (self: Agenda.Plan<Task.Any>): Origin => PlanImpl.origin(planImpl(self))
