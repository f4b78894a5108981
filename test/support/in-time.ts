import { after } from 'node:test'

/** Minutes that one file has unless told; the longest of the ordinary ones takes about five. */
const MOST_MINUTES = Number(process.env['TEST_FILE_MINUTES'] ?? 25)
/** Milliseconds that a file has to end after its last test. */
const END_MS = 180_000

/*
 * Loaded before each test file: a file that hangs ends, and says what keeps it alive. node's own --test-timeout ends tests
 * alone, neither hooks nor what a failed hook leaves open.
 */
function endIn(ms: number, why: string): void {
  const end = () => {
    process.stderr.write(`${why}: ${process.argv[1]}; what is open: ${process.getActiveResourcesInfo().join(', ')}\n`)
    process.exit(1)
  }
  setTimeout(end, ms).unref()
}

endIn(MOST_MINUTES * 60_000, `this file took more than ${MOST_MINUTES} minutes`)
after(() => endIn(END_MS, 'all tests of this file have ended, but it goes on'))
