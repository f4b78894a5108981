import { fakeBackend } from '../../orchestrator/backends/fake/fake.ts'
import { fakeHost, order } from '../support/orders.ts'
import { backendContract } from './backend.ts'

backendContract('fake', async () => {
  const backend = fakeBackend()
  backend.setReachable('absent', false)
  return { backend, host: fakeHost('h1'), absent: fakeHost('absent'), order }
})
