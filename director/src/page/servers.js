// The servers of a service, each once, though it may serve several of its pools.

/** What becomes of a server: what needs a look comes first. */
export const STATES = ["out", "kept", "disabled", "drained", "unknown", "in"];

/**
 * The servers of all pools, those with the worst states first and otherwise in the order of the pools.
 * Each has a `key`, its `name`, its worst `state`, and its `parts`: `[pool, server]` of each pool.
 */
export function worst(pools) {
  const servers = new Map();
  for (const pool of pools) {
    for (const server of pool.servers) {
      const key = `${pool.family} ${server.server}`;
      const entry = servers.get(key) ?? { key, name: server.server, parts: [] };
      entry.parts.push([pool, server]);
      servers.set(key, entry);
    }
  }
  const rank = (entry) => Math.min(...entry.parts.map(([, server]) => STATES.indexOf(server.state)));
  const all = [...servers.values()].map((entry) => ({ ...entry, rank: rank(entry) }));
  all.sort((one, other) => one.rank - other.rank);
  return all.map(({ rank, ...entry }) => ({ ...entry, state: STATES[rank] }));
}
