import { Readable } from 'node:stream'
import { OrchestratorError } from '../../common/errors.ts'
import type { Engine } from '../engine/containers.ts'

/** The image of sandboxes: one static program that waits for ever. Made by us, so that no registry and no compiler is needed. */
export const PAUSE_IMAGE = { name: 'orchestrator/pause', tag: '1' } as const

/**
 * Machine code that does nothing but sleep, and its number in the ELF header (e_machine, elf.h).
 * x64: `again: mov eax, 34 (pause); syscall; jmp again`.
 * arm64, which has no pause: `again: ppoll(NULL, 0, NULL, NULL, 0)` (73) and `b again`.
 */
const PROGRAMS: Readonly<Record<string, { machine: number; code: readonly number[] }>> = {
  x64: { machine: 62, code: [0xb8, 34, 0, 0, 0, 0x0f, 0x05, 0xeb, 0xf7] },
  arm64: {
    machine: 183,
    code: [0xd2800000, 0xd2800001, 0xd2800002, 0xd2800003, 0xd2800004, 0xd2800928, 0xd4000001, 0x17fffff9].flatMap(
      (word) => [word & 255, (word >>> 8) & 255, (word >>> 16) & 255, word >>> 24],
    ),
  },
}

const ELF_HEADER = 64
const PROGRAM_HEADER = 56
/** Where the program is mapped; any page-aligned address above the kernel's vm.mmap_min_addr. */
const LOAD_ADDRESS = 0x400000n
/** Largest page size of the architectures above (arm64 kernels may use 64 KiB). */
const ALIGNMENT = 0x10000n

/** The smallest static program for an architecture (`process.arch`). @throws OrchestratorError code unsupported-architecture */
export function pauseProgram(arch: string): Buffer {
  const program = PROGRAMS[arch]
  if (!program) {
    throw new OrchestratorError(
      'unsupported-architecture',
      `no sandbox program for ${arch}; there is one for ${Object.keys(PROGRAMS).join(' and ')}`,
    )
  }
  const size = ELF_HEADER + PROGRAM_HEADER + program.code.length
  const elf = Buffer.alloc(size)
  elf.set([0x7f, 0x45, 0x4c, 0x46, 2, 1, 1]) // magic, 64 bits, little-endian, version
  elf.writeUInt16LE(2, 16) // ET_EXEC
  elf.writeUInt16LE(program.machine, 18)
  elf.writeUInt32LE(1, 20)
  elf.writeBigUInt64LE(LOAD_ADDRESS + BigInt(ELF_HEADER + PROGRAM_HEADER), 24) // entry
  elf.writeBigUInt64LE(BigInt(ELF_HEADER), 32) // program headers
  elf.writeUInt16LE(ELF_HEADER, 52)
  elf.writeUInt16LE(PROGRAM_HEADER, 54)
  elf.writeUInt16LE(1, 56)
  elf.writeUInt16LE(64, 58) // size of a section header, of which there is none
  elf.writeUInt32LE(1, ELF_HEADER) // PT_LOAD
  elf.writeUInt32LE(5, ELF_HEADER + 4) // readable, executable
  elf.writeBigUInt64LE(LOAD_ADDRESS, ELF_HEADER + 16)
  elf.writeBigUInt64LE(LOAD_ADDRESS, ELF_HEADER + 24)
  elf.writeBigUInt64LE(BigInt(size), ELF_HEADER + 32)
  elf.writeBigUInt64LE(BigInt(size), ELF_HEADER + 40)
  elf.writeBigUInt64LE(ALIGNMENT, ELF_HEADER + 48)
  elf.set(program.code, ELF_HEADER + PROGRAM_HEADER)
  return elf
}

/** A tar (POSIX.1-1988 ustar) that holds one executable file. */
export function tarOf(name: string, content: Buffer): Buffer {
  const header = Buffer.alloc(512)
  const octal = (value: number, at: number, width: number) =>
    header.write(`${value.toString(8).padStart(width - 1, '0')}\0`, at, 'latin1')
  header.write(name, 0, 'latin1')
  octal(0o755, 100, 8)
  octal(0, 108, 8)
  octal(0, 116, 8)
  octal(content.length, 124, 12)
  octal(0, 136, 12)
  header.write('0', 156, 'latin1')
  header.write('ustar\0' + '00', 257, 'latin1')
  header.fill(' ', 148, 156)
  octal(
    header.reduce((sum, byte) => sum + byte, 0),
    148,
    7,
  )
  const padding = Buffer.alloc((512 - (content.length % 512)) % 512)
  return Buffer.concat([header, content, padding, Buffer.alloc(1024)])
}

/** Makes sure that the engine has the pause image. Safe to call at any time. */
export async function ensurePauseImage(engine: Engine, signal?: AbortSignal): Promise<void> {
  if (await engine.hasImage(`${PAUSE_IMAGE.name}:${PAUSE_IMAGE.tag}`, signal)) return
  const tar = tarOf('pause', pauseProgram(process.arch))
  const changes = ['ENTRYPOINT ["/pause"]', 'USER 65534:65534']
  await engine.importImage(Readable.from([tar]), { ...PAUSE_IMAGE, changes }, signal)
}
