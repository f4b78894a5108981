/** The part of ip6addr that common/ipv6.ts uses; the package carries no types. */
declare module 'ip6addr' {
  interface Addr {
    toBuffer(): Buffer
  }
  const ip6addr: { parse(input: string): Addr }
  export default ip6addr
}
