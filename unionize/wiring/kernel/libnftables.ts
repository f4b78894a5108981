import koffi from 'koffi'
import { WiringError } from '../errors.ts'

const AS_JSON = 1 << 4
/** A signal amid a call ends it. */
const ATTEMPTS = 10

/** A refusal of libnftables, in its own words. */
export class FirewallRefusal extends WiringError {
  /** Whether the kernel's rules are not what we took them for: something is missing, or there already. */
  readonly unexpectedState: boolean
  /** Whether a signal came before the kernel's answer. */
  readonly interrupted: boolean
  constructor(text: string) {
    const line = text.trim().replace(/\s+/g, ' ').slice(0, 600)
    const permission = line.includes('Operation not permitted')
    super(
      permission ? 'not-permitted' : 'firewall-refused',
      permission
        ? `cannot change the firewall (${line}): CAP_NET_ADMIN is needed`
        : `the kernel's firewall refused: ${line}`,
      { retryable: /Resource busy|Interrupted system call/.test(line) },
    )
    this.interrupted = line.includes('Interrupted system call')
    this.unexpectedState = /No such file or directory|File exists/.test(line)
  }
}

/**
 * libnftables (libnftables(3)) in this process: the language of nft(8) without a process for each change. It speaks for
 * the network namespace in which it was made. One thread only.
 */
export class Nftables {
  readonly #context: unknown
  readonly #library = library()

  constructor() {
    const context = this.#library.contextNew(0)
    if (context === null) throw new WiringError('wiring-fault', 'libnftables made no context')
    this.#library.bufferOutput(context)
    this.#library.bufferErrors(context)
    this.#context = context
  }

  /** Carries out all commands in one transaction: all of them or none. @throws FirewallRefusal */
  run(commands: string): void {
    this.#library.outputSetFlags(this.#context, 0)
    this.#run(commands)
  }

  /** What a `list` command tells, as parsed JSON. @throws FirewallRefusal */
  list(command: string): unknown {
    this.#library.outputSetFlags(this.#context, AS_JSON)
    return JSON.parse(this.#run(command))
  }

  /** Lets go of the namespace, which an open context holds. To be used no more. */
  close(): void {
    this.#library.contextFree(this.#context)
  }

  /** Carried out twice, if a signal came before the answer, commands end as after one time, or in what the caller mends. */
  #run(commands: string): string {
    for (let attempt = 1; ; attempt++) {
      if (this.#library.run(this.#context, Buffer.from(`${commands}\0`)) === 0) {
        return this.#library.output(this.#context)
      }
      const refusal = new FirewallRefusal(this.#library.errors(this.#context))
      if (!refusal.interrupted || attempt === ATTEMPTS) throw refusal
    }
  }
}

let loaded: ReturnType<typeof open> | null = null

/** Loaded once for each thread. */
function library(): ReturnType<typeof open> {
  loaded ??= open()
  return loaded
}

function open() {
  try {
    const library = koffi.load('libnftables.so.1')
    return {
      contextNew: library.func('void *nft_ctx_new(uint32_t flags)') as (flags: number) => unknown,
      contextFree: library.func('void nft_ctx_free(void *context)') as (context: unknown) => void,
      bufferOutput: library.func('int nft_ctx_buffer_output(void *context)') as (context: unknown) => number,
      bufferErrors: library.func('int nft_ctx_buffer_error(void *context)') as (context: unknown) => number,
      output: library.func('const char *nft_ctx_get_output_buffer(void *context)') as (context: unknown) => string,
      errors: library.func('const char *nft_ctx_get_error_buffer(void *context)') as (context: unknown) => string,
      outputSetFlags: library.func('void nft_ctx_output_set_flags(void *context, unsigned int flags)') as (
        context: unknown,
        flags: number,
      ) => void,
      run: library.func('int nft_run_cmd_from_buffer(void *context, const void *text)') as (
        context: unknown,
        text: Buffer,
      ) => number,
    }
  } catch (thrown) {
    throw new WiringError('library-missing', 'libnftables.so.1 cannot be loaded: install the package libnftables1', {
      cause: thrown,
    })
  }
}
