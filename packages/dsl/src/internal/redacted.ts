/**
 * Secrets on the wire: a `Redacted` value has a JSON form, and it is the secret in clear. Stores, backups and pages would
 * show it, so a schema that would write one is refused.
 *
 * A schema whose encoded form is something else (an encrypted text, a reference to a vault) is accepted: its author has said
 * how it is written. One that just unwraps the secret, as `Schema.RedactedFromValue` does, is found by trying.
 */
import * as Exit from "effect/Exit"
import * as Redacted from "effect/Redacted"
import * as Result from "effect/Result"
import * as Schema from "effect/Schema"
import * as SchemaAST from "effect/SchemaAST"
import * as SchemaTransformation from "effect/SchemaTransformation"

const encrypted = "~@effect-docket/dsl/Encrypted"

/** The step from a value to an encrypted text. What is below it is not written. */
export class EncryptedLink<in out T, in out E, RD, RE> extends SchemaTransformation.Transformation<T, E, RD, RE> {
  readonly [encrypted] = true
}

/** Whether a schema encodes to an encrypted text. */
const isEncrypted = (ast: SchemaAST.AST): boolean =>
  ast.encoding?.some(({ transformation }) => encrypted in transformation) === true

/** Whether some values of a schema are encrypted, each time to another text. */
export const mayBeEncrypted = (ast: SchemaAST.AST): boolean =>
  isEncrypted(ast) || (SchemaAST.isUnion(ast) && ast.types.some(mayBeEncrypted))

const redacted = "effect/schema/Redacted"

const probe = "~@effect-docket/dsl/redacted~"

/** Whether a secret text comes out of its encoding as it went in. What does not take the probe is left to its author. */
const unwraps = (ast: SchemaAST.AST): boolean => {
  const schema = Schema.make<Schema.Codec<unknown, unknown>>(ast)
  const encoded = Result.try(() => Schema.encodeUnknownExit(schema)(Redacted.make(probe)))
  return Result.isSuccess(encoded) && Exit.isSuccess(encoded.success) && encoded.success.value === probe
}

/** What `Schema.Redacted` writes into its annotations. */
interface Representation {
  readonly id?: unknown
  readonly payload?: { readonly disallowJsonEncode?: boolean } | null
}

const representation = (ast: SchemaAST.AST): Representation | undefined =>
  ast.annotations?.["representation"] as Representation | undefined // see above

const isUnprotected = (ast: SchemaAST.AST): boolean =>
  ast.encoding === undefined ? representation(ast)?.payload?.disallowJsonEncode !== true : unwraps(ast)

/** What a schema is made of, and what it is encoded to. */
const parts = (ast: SchemaAST.AST): ReadonlyArray<SchemaAST.AST> => {
  const encodings = ast.encoding?.map(({ to }) => to) ?? []
  if (SchemaAST.isDeclaration(ast)) return [...encodings, ...ast.typeParameters]
  if (SchemaAST.isObjects(ast)) {
    return [...encodings, ...[...ast.propertySignatures, ...ast.indexSignatures].map(({ type }) => type)]
  }
  if (SchemaAST.isArrays(ast)) return [...encodings, ...ast.elements, ...ast.rest]
  if (SchemaAST.isUnion(ast)) return [...encodings, ...ast.types]
  return SchemaAST.isSuspend(ast) ? [ast.thunk()] : encodings
}

/** Whether the JSON form of a schema would hold a redacted value in clear. */
export const isInClear = (schema: Schema.Top): boolean => {
  const seen = new Set<SchemaAST.AST>()
  const visit = (ast: SchemaAST.AST): boolean => {
    if (seen.has(ast)) return false
    seen.add(ast)
    if (isEncrypted(ast)) return false
    return representation(ast)?.id === redacted ? isUnprotected(ast) : parts(ast).some(visit)
  }
  return visit(schema.ast)
}
