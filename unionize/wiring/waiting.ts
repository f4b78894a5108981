/** What the kernel does beside us takes well under a millisecond; this is when something must be wrong. */
const DEADLINE_MS = 3000
/** How long to leave the core to the kernel before looking again. */
const PAUSE_MS = 0.05

const never = new Int32Array(new SharedArrayBuffer(4))

/** Blocks this thread until `look` returns true, for at most three seconds. Whether it did. */
export function waitUntil(look: () => boolean): boolean {
  const deadline = performance.now() + DEADLINE_MS
  while (!look()) {
    if (performance.now() > deadline) return false
    Atomics.wait(never, 0, 0, PAUSE_MS)
  }
  return true
}
