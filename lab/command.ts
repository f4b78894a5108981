import { spawn } from 'node:child_process'
import { OrchestratorError } from '../common/errors.ts'

/** Something in the lab did not work; the message says what to do where that is known. */
export class LabError extends OrchestratorError {}

export interface CommandOptions {
  /** For its standard input; without it, that is empty. */
  readonly input?: string | Buffer
  readonly environment?: Readonly<Record<string, string>>
  /** Milliseconds after which it is killed; 30,000 unless told. */
  readonly timeoutMs?: number
  readonly signal?: AbortSignal | undefined
}

/**
 * Runs a program to its end.
 * @returns its standard output
 * @throws LabError 'command-failed' with its standard error, when it does not exit with 0, 'aborted' on the signal
 */
export function run(file: string, args: readonly string[], options: CommandOptions = {}): Promise<string> {
  const shown = [file, ...args].join(' ').slice(0, 300)
  return new Promise((resolve, reject) => {
    if (options.signal?.aborted) {
      reject(new LabError('aborted', `not run any more: ${shown}`))
      return
    }
    const child = spawn(file, args, { stdio: 'pipe', env: { ...process.env, ...options.environment } })
    const out: Buffer[] = []
    const err: Buffer[] = []
    let why = ''
    const end = (reason: string): void => {
      why = reason
      child.kill('SIGKILL')
    }
    const limit = options.timeoutMs ?? 30_000
    const timer = setTimeout(() => end(`took more than ${limit} ms`), limit)
    const abort = (): void => end('aborted')
    options.signal?.addEventListener('abort', abort, { once: true })
    const settled = (): void => {
      clearTimeout(timer)
      options.signal?.removeEventListener('abort', abort)
    }
    child.stdout.on('data', (chunk: Buffer) => out.push(chunk))
    child.stderr.on('data', (chunk: Buffer) => err.push(chunk))
    // A program that exits before it has read its input is judged by its exit code.
    child.stdin.on('error', () => undefined)
    child.stdin.end(options.input ?? '')
    child.on('error', (cause) => {
      settled()
      reject(new LabError('command-failed', `cannot run ${file}`, { cause }))
    })
    child.on('close', (code, signal) => {
      settled()
      if (code === 0 && why === '') {
        resolve(Buffer.concat(out).toString())
        return
      }
      const said = Buffer.concat([...err, ...(err.length === 0 ? out : [])])
        .toString()
        .trim()
        .slice(-2000)
      const outcome = why || (code === null ? `ended by ${signal}` : `exit code ${code}`)
      reject(new LabError(why === 'aborted' ? 'aborted' : 'command-failed', `${shown}: ${outcome}\n${said}`))
    })
  })
}

/** Is the condition true before the deadline? Looks every few milliseconds. @throws LabError 'deadline' naming `what` */
export async function waitFor<T>(
  what: string,
  condition: () => Promise<T | undefined | false> | T | undefined | false,
  options: { readonly timeoutMs?: number; readonly everyMs?: number; readonly signal?: AbortSignal | undefined } = {},
): Promise<T> {
  const limit = options.timeoutMs ?? 30_000
  const deadline = performance.now() + limit
  for (;;) {
    if (options.signal?.aborted) throw new LabError('aborted', `gave up waiting for ${what}: aborted`)
    const found = await condition()
    if (found !== undefined && found !== false) return found
    if (performance.now() > deadline) throw new LabError('deadline', `waited ${limit} ms in vain for ${what}`)
    await new Promise((resolve) => setTimeout(resolve, options.everyMs ?? 10))
  }
}
