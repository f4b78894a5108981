import { readFileSync } from 'node:fs'
import { systemClock } from '../../common/clock.ts'
import { openInventory } from '../../orchestrator/backends/coreos/machines/inventory.ts'
import { createMachines } from '../../orchestrator/backends/coreos/machines/machines.ts'
import { createShell } from '../../orchestrator/backends/coreos/ssh.ts'
import { openStore } from '../../orchestrator/store/knex.ts'
import { silent } from './fixtures.ts'

/** A process that looks after the machines in a store, to be killed. Arguments: the store's URL, the file of the private key. */
const [url = '', keyFile = ''] = process.argv.slice(2)
const store = await openStore(url)
const inventory = await openInventory({
  all: () => store.backendRecords('metal'),
  put: (key, value) => store.putBackendRecord('metal', key, value),
})
const key = readFileSync(keyFile, 'utf8')
const shell = createShell({ login: async () => ({ key }), clock: systemClock })
const nothing = { look: async () => [], drop: async () => {}, leave: async () => {} }
const machines = createMachines({ inventory, shell, clock: systemClock, log: silent, ...nothing })
machines.start({ residents: { moveAway: async () => 0 }, tell: async () => {} })
