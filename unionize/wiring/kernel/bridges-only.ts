import { attachFilter } from './libc.ts'

/** Codes of linux/bpf_common.h. */
const LD_NUMBER = 0x00
const LDX_NUMBER = 0x01
const LD_WORD = 0x20
const LD_WORD_AT_X = 0x40
const LD_HALF_AT_X = 0x48
const LD_BYTE_AT_X = 0x50
const COMPARE = 0x15
const TO_X = 0x07
const RETURN = 0x06
/** Of linux/filter.h: where from A on is the attribute whose type is in X, and where within the one at A; 0: nowhere. */
const FIND = 0xffff_f000 + 12
const FIND_NESTED = 0xffff_f000 + 16
/** Behind struct nlmsghdr and struct ifinfomsg. */
const ATTRIBUTES = 32
const IFLA_LINKINFO = 18
const IFLA_INFO_KIND = 1
const KIND = Buffer.from('bridge\0')
/** Bytes of struct sock_filter. */
const INSTRUCTION = 8
const SOME = 0xffff_ffff

type Instruction = readonly [code: number, operand: number, refuse?: 'if equal' | 'unless equal']

const program: readonly Instruction[] = [
  [LD_NUMBER, ATTRIBUTES],
  [LDX_NUMBER, IFLA_LINKINFO],
  [LD_WORD, FIND],
  [COMPARE, 0, 'if equal'],
  [LDX_NUMBER, IFLA_INFO_KIND],
  [LD_WORD, FIND_NESTED],
  [COMPARE, 0, 'if equal'],
  [TO_X, 0],
  [LD_WORD_AT_X, 4],
  [COMPARE, KIND.readUInt32BE(0), 'unless equal'],
  [LD_HALF_AT_X, 8],
  [COMPARE, KIND.readUInt16BE(4), 'unless equal'],
  [LD_BYTE_AT_X, 10],
  [COMPARE, 0, 'unless equal'],
  [RETURN, SOME],
  [RETURN, 0],
]

/**
 * Lets a netlink socket hear of links of the kind `bridge` only (classic BPF, socket(7)). What it does not hear of wakes
 * nobody, and takes no room in its buffer. Without an attribute that tells the kind there is none.
 * @returns -1 after a failure, whose number `lastErrno` tells
 */
export function hearBridgesOnly(fd: number): number {
  const bytes = Buffer.alloc(INSTRUCTION * program.length)
  for (const [at, [code, operand, refuse]] of program.entries()) {
    const toRefusal = program.length - 2 - at
    bytes.writeUInt16LE(code, at * INSTRUCTION)
    bytes[at * INSTRUCTION + 2] = refuse === 'if equal' ? toRefusal : 0
    bytes[at * INSTRUCTION + 3] = refuse === 'unless equal' ? toRefusal : 0
    bytes.writeUInt32LE(operand, at * INSTRUCTION + 4)
  }
  return attachFilter(fd, bytes, program.length)
}
