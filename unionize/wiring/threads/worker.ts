import { answerCalls } from './answering.ts'
import { createVerbs } from './verbs.ts'

answerCalls(createVerbs)
