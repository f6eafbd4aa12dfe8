/** Manual pages in man(7), from the help texts. */

/** Text in a page: a backslash, a hyphen and a dot at the beginning of a line mean something in roff. */
const escapeRoff = (text) =>
  text
    .replaceAll('\\', '\\e')
    .replaceAll('-', '\\-')
    .replaceAll('…', '...')
    .replace(/^([.'])/gm, '\\&$1');

const formatOption = ({ name, value, help }) =>
  `.TP\n\\fB${name.length === 1 ? '' : '\\-'}\\-${escapeRoff(name)}\\fR${value === '' ? '' : ` \\fI${escapeRoff(value)}\\fR`}\n${escapeRoff(help)}\n`;

/** A paragraph; lines that are indented stay as they are. */
const formatParagraph = (text) =>
  /^ {2}/m.test(text) ? `.PP\n.nf\n${escapeRoff(text)}\n.fi\n` : `.PP\n${escapeRoff(text)}\n`;

const formatHead = (name, section, { version, date }) =>
  `.TH ${name.toUpperCase()} ${section} "${date}" "Weft ${version}" "Weft"\n`;

const formatUsage = (usage) => `.B ${escapeRoff(usage)}\n`;

/** @param {import('./help-text.mjs').HelpPage} page @param {{ version: string; date: string }} release */
export const formatDaemonPage = (page, release) =>
  `${formatHead('weftd', 8, release)}.SH NAME
weftd \\- ${escapeRoff(page.summary)}
.SH SYNOPSIS
${formatUsage(page.usage)}.SH OPTIONS
${page.options.map(formatOption).join('')}.SH ENVIRONMENT
${page.paragraphs.map(formatParagraph).join('')}.SH FILES
.TP
.I /etc/default/weftd
Settings of the service.
.TP
.I /run/weft/node.json
The host's subnets, for the plugins.
.TP
.I /run/flannel/subnet.env
The same in flannel's form.
.SH SEE ALSO
.BR weftctl (1)
`;

/** @param {import('./help-text.mjs').HelpPage} page @param {import('./help-text.mjs').HelpPage[]} verbs */
export const formatToolPage = (page, verbs, release) =>
  `${formatHead('weftctl', 1, release)}.SH NAME
weftctl \\- ${escapeRoff(page.summary)}
.SH SYNOPSIS
${formatUsage(page.usage)}.SH VERBS
${verbs.map((verb) => formatVerb(verb, page)).join('')}.SH OPTIONS
${page.options.map(formatOption).join('')}.SH ENVIRONMENT
${page.paragraphs.map(formatParagraph).join('')}.SH SEE ALSO
.BR weftd (8)
`;

/** A verb with the options of its own. */
function formatVerb(verb, page) {
  const common = new Set(page.options.map(({ name }) => name));
  const own = verb.options.filter(({ name }) => !common.has(name));
  const text = verb.paragraphs.map(formatParagraph).join('');
  return `.SS ${escapeRoff(verb.usage.replace('weftctl [OPTION]... ', ''))}\n${text}${own.map(formatOption).join('')}`;
}
