/**
 * Lint rules of this repository that oxlint does not have.
 */

/** Failures are values of Effect; `Effect.try` is the door for code that throws. */
const noTry = {
  create: (context) => ({
    TryStatement: (node) =>
      context.report({ node, message: "No try/catch in the library: use `Effect.try` or `Result.try`." })
  })
}

const directive = /(?:oxlint|eslint)-disable|@effect-diagnostics|@ts-(?:expect-error|ignore|nocheck)/

/** An exception to a rule says why, on the same line: `-- reason`. */
const directiveReason = {
  create: (context) => ({
    Program: () => {
      for (const comment of context.sourceCode.getAllComments()) {
        if (directive.test(comment.value) && !/ -- \S/.test(comment.value)) {
          context.report({
            loc: comment.loc,
            message: "Say why this exception is right: add `-- reason` to the comment."
          })
        }
      }
    }
  })
}

export default {
  meta: { name: "docket" },
  rules: { "no-try": noTry, "directive-reason": directiveReason }
}
