/** Makes devices ports of a bridge of Open vSwitch as told, and prints how many it changed. Arguments: socket, bridge, ports. */
import { openVswitch } from '../../unionize/wiring/ovs/open-vswitch.ts'

const [socket = '', bridge = '', ...ports] = process.argv.slice(2)
const ovs = openVswitch({ socket })
process.stdout.write(String(ports.filter((port) => ovs.ensurePort({ bridge, port, tag: 7 })).length))
