/**
 * Secrets on the wire: a `Redacted` value has a JSON form, and it is the secret in clear. Stores, backups and pages would
 * show it, so a schema that would write one is refused.
 *
 * A schema whose encoded form is something else (an encrypted text, a reference to a vault) is none of our business: its
 * author has said how it is written.
 */
import type * as Schema from "effect/Schema"
import * as SchemaAST from "effect/SchemaAST"

const redacted = "effect/schema/Redacted"

/** Whether the JSON form of a schema would hold a redacted value in clear. */
export const isInClear = (schema: Schema.Top): boolean => {
  const seen = new Set<SchemaAST.AST>()
  const visit = (ast: SchemaAST.AST): boolean => {
    if (seen.has(ast)) return false
    seen.add(ast)
    if (SchemaAST.isDeclaration(ast)) {
      const representation = ast.annotations?.["representation"] as {
        readonly id?: unknown
        readonly payload?: unknown
      } | undefined // as `Schema.Redacted` writes it
      if (representation?.id === redacted) {
        const options = representation.payload as { readonly disallowJsonEncode?: boolean } | null // as above
        return options?.disallowJsonEncode !== true
      }
      return ast.typeParameters.some(visit)
    }
    if (SchemaAST.isObjects(ast)) {
      return ast.propertySignatures.some(({ type }) => visit(type)) ||
        ast.indexSignatures.some(({ type }) => visit(type))
    }
    if (SchemaAST.isArrays(ast)) return ast.elements.some(visit) || ast.rest.some(visit)
    if (SchemaAST.isUnion(ast)) return ast.types.some(visit)
    return SchemaAST.isSuspend(ast) && visit(ast.thunk())
  }
  return visit(SchemaAST.toEncoded(schema.ast))
}
