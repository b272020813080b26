/** Text from outside in a chat: it shows what it is, and calls nobody. */

/** Invisible, and enough that no chat takes `@channel` or `@everyone` for a mention. */
const APART = '\u200b'

export function withoutMentions(text: string): string {
  return text.replace(/@(?=[\p{L}\p{N}_])/gu, `@${APART}`)
}

const ENTITIES = { '&': '&amp;', '<': '&lt;', '>': '&gt;' } as const

/**
 * The same where the receiver reads Slack's markup, in which `<!channel>` is a mention and `<address|words>` a link; Mattermost
 * and Rocket.Chat read it too. Slack wants these three characters escaped, and no others (docs.slack.dev, “Formatting message text”).
 */
export function withoutMarkup(text: string): string {
  return withoutMentions(text).replace(/[&<>]/g, (sign) => ENTITIES[sign as keyof typeof ENTITIES])
}
