/**
 * What the programs have in common: a mistake is told in one line, and the exit code says how it went.
 */
import * as NodeRuntime from "@effect/platform-node/NodeRuntime"
import * as NodeServices from "@effect/platform-node/NodeServices"
import { Cause, Console, Data, Effect, Exit, Logger, References, Runtime } from "effect"
import { CliConfig, type CliError, CliOutput, type Command, GlobalFlag } from "effect/cli"

/** Ends the program with a message and an exit code. */
export class Problem extends Data.TaggedError("Problem")<{ readonly message: string; readonly code: number }> {
  override get [Runtime.errorExitCode]() {
    return this.code
  }
  override readonly [Runtime.errorReported] = false // by the logger: `runProgram` prints it
}

/** The exit code after a signal. */
export const interrupted = 130

/** From now on, a signal ends the process at once. */
export const stopAtOnce: Effect.Effect<void> = Effect.sync(() => {
  for (const signal of ["SIGINT", "SIGTERM"]) process.once(signal, () => process.exit(interrupted))
})

/** Runs `Command.run` of a command as the program `name`. */
export const runProgram = (
  name: string,
  program: Effect.Effect<void, Problem | CliError.CliError, Command.Environment>
): void =>
  program.pipe(
    Effect.catchTag(
      "ShowHelp",
      ({ errors }) =>
        new Problem({ message: errors.map(({ message }) => message.replaceAll(/\s+/g, " ")).join("; "), code: 2 })
    ),
    Effect.tapError(({ message }) => Console.error(`${name}: ${message}`)),
    Effect.provide([
      NodeServices.layer,
      Logger.layer([Logger.withConsoleError(Logger.formatLogFmt)]),
      CliConfig.layer({ builtIns: [GlobalFlag.Help, GlobalFlag.Version, GlobalFlag.LogLevel] }),
      CliOutput.layerPresenter({
        // a mistake is told in one line, at the end
        present: (event) => event._tag === "InvalidInvocation" ? Effect.void : CliOutput.defaultPresenter.present(event)
      })
    ]),
    // Workers log each failed run as an error, which the programs do better. `--log-level` brings it back.
    Effect.provideService(References.MinimumLogLevel, "None"),
    NodeRuntime.runMain({
      teardown: (exit, onExit) =>
        Exit.isFailure(exit) && Cause.hasInterruptsOnly(exit.cause)
          ? onExit(Number(process.exitCode ?? interrupted))
          : Runtime.defaultTeardown(exit, onExit)
    })
  )
