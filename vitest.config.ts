import { defineConfig } from "vitest/config"

// These start Redis servers and processes.
const onRedis = ["packages/redis-store/test/**/*.test.ts", "examples/test/*.redis.test.ts"]

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
          exclude: onRedis,
          sequence: { concurrent: true },
          // a test waits for those beside it
          testTimeout: 60_000,
          hookTimeout: 60_000
        }
      },
      {
        extends: true,
        // one file at a time, after the others
        test: {
          name: "integration",
          include: onRedis,
          globalSetup: ["packages/redis-store/test/globalSetup.ts"],
          maxWorkers: 1,
          sequence: { groupOrder: 1 },
          testTimeout: 60_000,
          hookTimeout: 60_000
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
