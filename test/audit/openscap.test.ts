import { expect, test } from 'vitest'
import { countResults, parseOpenScap, ratio } from '../../audit/openscap.ts'

/** From a clone without hardening: openscap-scanner 1.3.7, ssg-debian 0.1.82, with a carriage return in each line. */
const PRINTED = `--- Starting Evaluation ---

Title\r\tInstall AIDE
Rule\r\txccdf_org.ssgproject.content_rule_package_aide_installed
Result\r\tfail

Title\r\tConfigure Systemd Timer Execution of AIDE
Rule\r\txccdf_org.ssgproject.content_rule_aide_periodic_checking_systemd_timer
Result\r\tnotapplicable

Title\r\tEnsure /dev/shm is configured
Rule\r\txccdf_org.ssgproject.content_rule_partition_for_dev_shm
Result\r\tpass

Title\r\tEnsure Sudo Logfile Exists - sudo logfile
Rule\r\txccdf_org.ssgproject.content_rule_sudo_custom_logfile
Result\r\tfail

Title\r\tEnsure No World-Writable Files Exist
Rule\r\txccdf_org.ssgproject.content_rule_file_permissions_unauthorized_world_writable
Result\r\tpass

`

test('each rule has its id, title and result, in the order in which they were looked at', () => {
  const rules = parseOpenScap(PRINTED)
  expect(rules[0]).toEqual({ id: 'package_aide_installed', title: 'Install AIDE', result: 'fail' })
  expect(rules.map(({ result }) => result)).toEqual(['fail', 'notapplicable', 'pass', 'fail', 'pass'])
  expect(countResults(rules)).toEqual({ fail: 2, notapplicable: 1, pass: 2 })
})

test('an identifier between rule and result changes nothing', () => {
  const text = PRINTED.replace('Result\r\tpass', 'Ident\r\tCCE-80853-5\nResult\r\tpass')
  expect(parseOpenScap(text)).toEqual(parseOpenScap(PRINTED))
})

test('the ratio counts errors as failures, and leaves out what was not applicable or not checked', () => {
  const rules = (results: string[]) => results.map((result) => ({ id: 'a', title: 'A', result }))
  expect(ratio(rules(['pass', 'pass', 'pass', 'fail']))).toBe(0.75)
  expect(ratio(rules(['pass', 'error', 'notapplicable', 'notchecked', 'notselected']))).toBe(0.5)
})

test('a rule that was not looked at to the end is refused, and so is a scan of nothing', () => {
  expect(() => parseOpenScap('--- Starting Evaluation ---\n')).toThrow('no rule')
  expect(() => parseOpenScap(PRINTED.trimEnd().replace(/\nResult\r\tpass$/, ''))).toThrow('world_writable')
})
