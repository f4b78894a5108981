import { socket } from './libc.ts'
import { attribute, attributesIn, attributeText, message, NLM_F_DUMP, NLM_F_REQUEST, sized, textOf } from './netlink.ts'
import { RouteSocket } from './route-socket.ts'

/** Messages about tables and named counters: linux/netfilter/nfnetlink.h, linux/netfilter/nf_tables.h. */
const AF_NETLINK = 16
const SOCK_RAW_CLOEXEC = 3 | 0o2000000
const NETLINK_NETFILTER = 12
const NFNL_SUBSYS_NFTABLES = 10
const NFT_MSG_GETTABLE = 1
const NFT_MSG_GETOBJ = 19
const NFGENMSG = 4
const NFTA_TABLE_NAME = 1
const NFTA_OBJ_TABLE = 1
const NFTA_OBJ_NAME = 2
const NFTA_OBJ_TYPE = 3
const NFTA_OBJ_DATA = 4
const NFT_OBJECT_COUNTER = 1
const NFTA_COUNTER_BYTES = 1
const NFTA_COUNTER_PACKETS = 2
/** NFPROTO_ of linux/netfilter.h. */
const FAMILIES = { inet: 1, arp: 3, bridge: 7 } as const

/** What a named counter of nftables has counted. */
export interface NamedCounter {
  readonly name: string
  readonly packets: number
  readonly bytes: number
}

/**
 * Reads tables and their named counters, of the network namespace that its thread was in when it was made. libnftables
 * could, but reads every element of every set on the host for it.
 */
export class Nfnetlink {
  readonly #socket = new RouteSocket(socket(AF_NETLINK, SOCK_RAW_CLOEXEC, NETLINK_NETFILTER)).configure()

  /** Such as `inet filter`, of the families that we use. @throws KernelRefusal; WiringError `answer-unreadable` */
  tables(): string[] {
    const bytes = message(
      (NFNL_SUBSYS_NFTABLES << 8) | NFT_MSG_GETTABLE,
      NLM_F_REQUEST | NLM_F_DUMP,
      Buffer.from([0, 0, 0, 0]),
    )
    return this.#socket.dump({ purpose: 'list the firewall tables', bytes }).flatMap((reply) => {
      const body = sized(reply.body, NFGENMSG)
      const family = Object.entries(FAMILIES).find(([, number]) => number === body[0])?.[0]
      return family === undefined
        ? []
        : [`${family} ${textOf(attributesIn(body.subarray(NFGENMSG)).get(NFTA_TABLE_NAME))}`]
    })
  }

  /** Of a table that is not there: none. @throws KernelRefusal; WiringError `answer-unreadable` */
  counters(family: keyof typeof FAMILIES, table: string): NamedCounter[] {
    const bytes = message(
      (NFNL_SUBSYS_NFTABLES << 8) | NFT_MSG_GETOBJ,
      NLM_F_REQUEST | NLM_F_DUMP,
      Buffer.from([FAMILIES[family], 0, 0, 0]),
      attributeText(NFTA_OBJ_TABLE, table),
      attribute(NFTA_OBJ_TYPE, Buffer.from([0, 0, 0, NFT_OBJECT_COUNTER])),
    )
    return this.#socket.dump({ purpose: `read the counters of ${family} ${table}`, bytes }).map((reply) => {
      const attributes = attributesIn(sized(reply.body, NFGENMSG).subarray(NFGENMSG))
      const data = attributesIn(attributes.get(NFTA_OBJ_DATA))
      return {
        name: textOf(attributes.get(NFTA_OBJ_NAME)),
        packets: be64Of(data.get(NFTA_COUNTER_PACKETS)),
        bytes: be64Of(data.get(NFTA_COUNTER_BYTES)),
      }
    })
  }

  close(): void {
    this.#socket.close()
  }
}

/** Exact up to 2^53. @throws WiringError `answer-unreadable` */
function be64Of(payload: Buffer | undefined): number {
  return Number(sized(payload ?? Buffer.alloc(0), 8).readBigUInt64BE())
}
