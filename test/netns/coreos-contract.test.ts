import { after, before } from 'node:test'
import type { HostName } from '../../orchestrator/domain/host.ts'
import { backendContract } from '../contract/backend.ts'
import { CoreosLab, machineOf, memoryRecords, thingsOn, tinyOrder } from '../support/coreos.ts'

/** The promises of every backend, on a machine with Podman. */
let lab: CoreosLab

before(async () => {
  lab = await CoreosLab.open('coc', 1)
  const gone = { ...machineOf(lab.lab.machine(1)), name: 'gone' as HostName, port: 9 }
  await lab.inventory.add(gone)
})
after(async () => {
  await lab?.close()
})

backendContract('coreos', async () => ({
  backend: lab.backend(),
  host: lab.target(1),
  absent: { name: 'gone' as HostName },
  order: (n, generation) => tinyOrder(n, generation),
  reopen: async () => lab.backend(),
  another: async () => lab.backend({ installation: 'fedcba9876543210', records: memoryRecords() }),
  things: () => thingsOn(lab.lab.machine(1)).then((all) => all.filter((one) => !one.includes('/.lock'))),
}))
