/**
 * What the examples store is still read: `docket.lock.json` beside them holds samples of it. `SCHEMA_LOCK=write npm test` writes
 * it when a schema has changed in a way that reads what is stored.
 */
import { TaskGroup } from "@effect-docket/dsl"
import { SchemaLock } from "@effect-docket/runtime/testing"
import { it } from "@effect/vitest"
import { fileURLToPath } from "node:url"
import { Complain, CountFile, FindFiles, WriteReport } from "../src/fileReport/tasks.ts"
import { Work } from "../src/fleet/tasks.ts"

class Examples extends TaskGroup.make(CountFile, FindFiles, WriteReport, Complain, Work) {}

const file = fileURLToPath(new URL("../docket.lock.json", import.meta.url))

it.effect("what the examples have stored is read", () =>
  process.env["SCHEMA_LOCK"] === "write" ? SchemaLock.write(Examples, { file }) : SchemaLock.check(Examples, { file }))
