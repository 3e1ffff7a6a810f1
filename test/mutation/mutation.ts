/**
 * A mutation: one place where the implementation is broken on purpose, and the tests that have to notice.
 */

/** Tests, by parts of their names. */
export interface Tests {
  /** Of `vitest.config.ts`. */
  readonly project: "unit" | "integration"
  readonly file: string
  /** What comes before the parts in the full name: the suite. */
  readonly suite: string
  /** Parts of the names of tests; none stands for all tests of the suite. */
  readonly names: ReadonlyArray<string>
}

/** A change of one place of one file. */
export interface Mutation {
  readonly id: string
  readonly file: string
  /** What is there: it occurs once in the file. */
  readonly find: string
  readonly replace: string
  /** What a user would suffer. */
  readonly breaks: string
  readonly noticedBy: Tests
}

const suite = (project: Tests["project"], file: string, suite: string) => (...names: ReadonlyArray<string>): Tests => ({
  project,
  file,
  suite,
  names
})

/** Tests of the contract, on the store in memory and with simulated time. */
export const onMemory = suite("unit", "packages/runtime/test/MemoryStore.test.ts", "store contract: memory ")

/** Tests of the contract, on a Redis server. */
export const onRedis = suite("integration", "packages/redis-store/test/standalone.test.ts", "store contract: redis ")

/** Tests of the contract, on a Redis cluster. */
export const onCluster = suite(
  "integration",
  "packages/redis-store/test/cluster.test.ts",
  "store contract: redis cluster "
)

/** Tests of a file of unit tests. */
export const unit = (file: string, ...names: ReadonlyArray<string>): Tests => suite("unit", file, "")(...names)

/** Tests of a file that start Redis servers. */
export const integration = (file: string, ...names: ReadonlyArray<string>): Tests =>
  suite("integration", file, "")(...names)

const escape = (text: string): string => text.replaceAll(/[.*+?^${}()|[\]\\]/g, String.raw`\$&`)

/** What the full names of the tests match. */
export const patternOf = ({ names, suite }: Tests): string =>
  `${escape(suite)}.*${names.length === 0 ? "" : `(?:${names.map(escape).join("|")})`}`

/** The file with the change; a message if it cannot be made. */
export const mutate = (
  { find, replace }: Pick<Mutation, "find" | "replace">,
  text: string
): { readonly text: string } | { readonly invalid: string } => {
  const parts = text.split(find)
  if (parts.length !== 2) {
    return { invalid: parts.length === 1 ? "its text is not there" : `its text is there ${parts.length - 1} times` }
  }
  if (find === replace) return { invalid: "it changes nothing" }
  return { text: parts.join(replace) }
}
