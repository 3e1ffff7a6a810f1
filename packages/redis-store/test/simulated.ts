/**
 * A server in simulated time: scripts are given a clock that a test sets, and what would expire is removed when that clock
 * says so.
 */
import { RedisStore } from "@effect-docket/redis-store"
import { Effect, Layer } from "effect"
import { Redis } from "ioredis"
import { epoch } from "../../runtime/test/contract/comparison.ts"
import type { Server } from "./server.ts"

const clock = "simulated:now"
const ends = "simulated:ends"

/** What stands between a script and the server. */
const simulated = `
local real = redis
local simulated = tonumber(real.call('GET', '${clock}'))
local redis = setmetatable({}, { __index = real })
redis.call = function(name, ...)
  local command = string.upper(name)
  if command == 'TIME' then
    return { string.format('%d', math.floor(simulated / 1000)), string.format('%d', simulated % 1000 * 1000) }
  elseif command == 'SET' then
    local key, value, px, millis = ...
    if px then real.call('HSET', '${ends}', key, string.format('%d', simulated + millis)) else real.call('HDEL', '${ends}', key) end
    return real.call('SET', key, value)
  elseif command == 'DEL' or command == 'UNLINK' or command == 'PERSIST' then
    real.call('HDEL', '${ends}', ...)
  elseif command == 'PEXPIRE' then
    local key, millis = ...
    return real.call('HSET', '${ends}', key, string.format('%d', simulated + millis))
  elseif command == 'PTTL' then
    local at = real.call('HGET', '${ends}', (...))
    return at and tonumber(at) - simulated or -1
  end
  return real.call(name, ...)
end
`

/** Moves the clock, and removes what ends. */
const advanceClock = `
local now = redis.call('INCRBY', '${clock}', ARGV[1])
local all = redis.call('HGETALL', '${ends}')
for i = 1, #all, 2 do
  if tonumber(all[i + 1]) <= now then
    redis.call('DEL', all[i])
    redis.call('HDEL', '${ends}', all[i])
  end
end
`

/** A client whose scripts see the simulated clock. They are sent whole: their digests are those of other scripts. */
class Simulated extends Redis {
  readonly #admin: Redis

  constructor(admin: Redis, port: number) {
    super({ port, maxRetriesPerRequest: 0 })
    this.#admin = admin
  }

  override sendCommand(...[command, ...rest]: Parameters<Redis["sendCommand"]>): ReturnType<Redis["sendCommand"]> {
    switch (command.name.toLowerCase()) {
      case "evalsha":
        command.reject(new Error("NOSCRIPT"))
        return command.promise
      case "eval":
        command.args[0] = simulated + String(command.args[0])
        break
      case "time":
        this.#admin.get(clock).then((now) => {
          const millis = Number(now)
          command.resolve([Math.floor(millis / 1000), millis % 1000 * 1000].map((part) => Buffer.from(String(part))))
        }, command.reject)
        return command.promise
    }
    return super.sendCommand(command, ...rest)
  }
}

/** The store in a server that is emptied, at the time when a model begins. */
export const storeIn = (server: Effect.Effect<Server>) =>
  Layer.unwrap(Effect.gen(function*() {
    const { admin, port } = yield* server
    yield* Effect.promise(() => admin.flushdb())
    yield* Effect.promise(() => admin.set(clock, epoch))
    const client = yield* Effect.acquireRelease(
      Effect.sync(() => new Simulated(admin, port)),
      (client) => Effect.sync(() => client.disconnect())
    )
    return RedisStore.layerClient(client)
  }))

/** Lets time pass. */
export const advance = (server: Effect.Effect<Server>, millis: number): Effect.Effect<void> =>
  Effect.flatMap(server, ({ admin }) => Effect.promise(() => admin.eval(advanceClock, 0, millis)))
