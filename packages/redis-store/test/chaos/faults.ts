/**
 * How each kind of fault is done, and undone.
 */
import { Effect, Schedule } from "effect"
import * as servers from "../server.ts"
import type { Stage } from "./act.ts"
import type { Member } from "./member.ts"
import type { Fault } from "./plan.ts"

/**
 * Does something that may be repeated until it has succeeded: Sentinels and faults kill the connections under it, and not every
 * command is sent again.
 */
const insist = <A>(effect: Effect.Effect<A>): Effect.Effect<A> =>
  effect.pipe(
    Effect.timeout(2000),
    // a command that is refused
    Effect.catchDefect(Effect.fail),
    Effect.retry(Schedule.spaced(100)),
    Effect.orDie
  )

const until = (condition: Effect.Effect<boolean>): Effect.Effect<void> => servers.until(insist(condition))

/** A master that has told its replica everything is killed, and comes back as the replica of the one that took over. */
const failOver = Effect.fnUntraced(function*({ sentinels, master, nodes }: servers.Sentinels) {
  const old = yield* insist(master)
  const other = nodes.find((node) => node !== old)!
  // it answers no write any more, so what the new master has not heard nobody was told
  const pause = servers.command(() => old.admin.call("CLIENT", "PAUSE", 60_000, "WRITE"))
  yield* until(Effect.andThen(pause, servers.isReplicated(old)))
  yield* old.stop("SIGKILL")
  // the Sentinels are patient: one of them is told, until it finds the replica good enough
  const isMaster = Effect.map(servers.about(other, "replication", "role"), (role) => role === "master")
  const tell = servers.command(() =>
    sentinels[0]!.admin.call("SENTINEL", "FAILOVER", servers.masterName).then(() => false, () => false)
  )
  yield* until(Effect.flatMap(isMaster, (done) => done ? Effect.succeed(true) : Effect.delay(tell, 500)))
  const know = ({ admin }: servers.Server) =>
    Effect.map(
      servers.command(() =>
        admin.call("SENTINEL", "GET-MASTER-ADDR-BY-NAME", servers.masterName) as Promise<ReadonlyArray<string>>
      ),
      ([, port]) => Number(port) === other.port
    )
  // as long as one of them names the old one, clients would find it empty
  yield* Effect.forEach(sentinels, (one) => until(know(one)))
  yield* old.start
  yield* insist(servers.command(() => old.admin.replicaof("127.0.0.1", other.port)))
  yield* until(Effect.map(servers.about(old, "replication", "master_link_status"), (link) => link === "up"))
})

/** What does a fault, undoes it, and ends then. */
export const makeFaults = (stage: Stage, crew: ReadonlyArray<Member>) => {
  const master = stage.set === undefined ? Effect.succeed(stage.server) : stage.set.master
  const onMaster = (f: (server: servers.Server) => Promise<unknown>) =>
    insist(Effect.flatMap(master, (server) => servers.command(() => f(server))))

  const ofServer: { readonly [K in Fault["kind"]]?: (millis: number) => Effect.Effect<unknown> } = {
    "server killed": (millis) =>
      Effect.gen(function*() {
        yield* stage.server.stop("SIGKILL")
        yield* Effect.sleep(millis)
        yield* stage.server.start
      }),
    "server stands still": (millis) =>
      Effect.gen(function*() {
        yield* stage.server.process().signal("SIGSTOP")
        yield* Effect.sleep(millis)
        yield* stage.server.process().signal("SIGCONT")
      }),
    "scripts flushed": () => onMaster(({ admin }) => admin.script("FLUSH")),
    "clients killed": () =>
      onMaster(async ({ admin }) => {
        await admin.call("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
        await admin.call("CLIENT", "KILL", "TYPE", "pubsub")
      }),
    "master killed": () => failOver(stage.set!),
    "Sentinel killed": (millis) =>
      Effect.gen(function*() {
        const sentinel = stage.set!.sentinels[1]!
        yield* sentinel.stop("SIGKILL")
        yield* Effect.sleep(millis)
        yield* sentinel.start
      })
  }

  const endAndStart = ({ start }: Member, end: Effect.Effect<void>, millis: number) =>
    Effect.andThen(Effect.andThen(end, Effect.sleep(millis)), start)

  const ofMember: { readonly [K in Fault["kind"]]?: (member: Member, millis: number) => Effect.Effect<unknown> } = {
    "worker killed": (member, millis) => endAndStart(member, member.kill, millis),
    "worker asked to end": (member, millis) => endAndStart(member, member.dismiss, millis),
    "producer killed": (member, millis) => endAndStart(member, member.kill, millis),
    "worker stands still": (member, millis) =>
      Effect.gen(function*() {
        yield* member.signal("SIGSTOP")
        yield* Effect.sleep(millis)
        yield* member.signal("SIGCONT")
      }),
    "clock jumps": (member) => member.signal("SIGUSR2"),
    "connections cut": ({ proxy }) => proxy!.cut,
    "network slow": ({ proxy }, millis) =>
      Effect.andThen(
        proxy!.delay(20 + millis % 180),
        Effect.andThen(Effect.sleep(millis), proxy!.delay(0))
      ),
    "answers dropped": ({ proxy }, millis) =>
      Effect.gen(function*() {
        yield* proxy!.mute(true)
        yield* Effect.sleep(millis)
        // an answer that was dropped does not come later: what stands open would wait for it
        yield* proxy!.cut
        yield* proxy!.mute(false)
      }),
    "half open": ({ proxy }) => proxy!.halfOpen,
    "unreachable": ({ proxy }, millis) =>
      Effect.gen(function*() {
        yield* proxy!.refuse(true)
        yield* proxy!.cut
        yield* Effect.sleep(millis)
        yield* proxy!.refuse(false)
      })
  }

  return ({ kind, millis, target }: Fault): Effect.Effect<unknown> => {
    const server = ofServer[kind]
    if (server !== undefined) return server(millis)
    return ofMember[kind]!(crew.find(({ name }) => name === target)!, millis)
  }
}
