import { defineConfig } from "vitest/config"

// Packages resolve each other from source, so no build comes before the tests.
const conditions = ["@effect-docket/source", "module", "node", "development|production"]

export default defineConfig({
  resolve: { conditions },
  ssr: { resolve: { conditions, externalConditions: ["@effect-docket/source", "node", "module-sync"] } },
  test: {
    maxWorkers: 2,
    projects: [
      {
        extends: true,
        test: {
          name: "unit",
          include: ["packages/*/test/**/*.test.ts", "examples/test/**/*.test.ts"],
          sequence: { concurrent: true }
        }
      },
      {
        extends: true,
        // These run compilers and npm.
        test: { name: "workspace", include: ["test/**/*.test.ts"], testTimeout: 120_000, hookTimeout: 120_000 }
      }
    ]
  }
})
