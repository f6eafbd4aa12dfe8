/** Completions of bash, zsh and fish, from the help texts. */

const takesPath = ({ value }) => /^(FILE|DIR)$/.test(value);
const wordsOf = ({ value }) => (value.includes('|') ? value.split('|') : []);
/** As it is written: one dash before a single letter. */
const flag = ({ name }) => `${name.length === 1 ? '-' : '--'}${name}`;
const flags = (options) => options.map(flag);

/** Options of all programs that have these by name, once. */
const unique = (options) => [...new Map(options.map((option) => [option.name, option])).values()];

/** @typedef {{ weftd: import('./help-text.mjs').HelpPage; weftctl: import('./help-text.mjs').HelpPage; verbs: import('./help-text.mjs').HelpPage[] }} Help */

const verbWords = (verb) => verb.name.replace(/^weftctl /, '').split(' ');

/** The lines of bash's `case` by which the value of an option is completed. */
function bashValues(options) {
  const paths = options.filter(takesPath);
  const lines = options.flatMap((option) =>
    wordsOf(option).length > 0
      ? [`    ${flag(option)}) COMPREPLY=($(compgen -W '${wordsOf(option).join(' ')}' -- "$word")); return ;;`]
      : [],
  );
  if (paths.length > 0) lines.push(`    ${flags(paths).join('|')}) COMPREPLY=($(compgen -f -- "$word")); return ;;`);
  const others = options.filter((option) => option.value !== '' && !takesPath(option) && wordsOf(option).length === 0);
  if (others.length > 0) lines.push(`    ${flags(others).join('|')}) return ;;`);
  return lines.join('\n');
}

/** @param {Help} help @param {'weftd' | 'weftctl'} program */
export function formatBash({ weftd, weftctl, verbs }, program) {
  const options =
    program === 'weftd' ? weftd.options : unique([...weftctl.options, ...verbs.flatMap((v) => v.options)]);
  const firsts = [...new Set(verbs.map((verb) => verbWords(verb)[0]))];
  const seconds = firsts.flatMap((first) => {
    const words = verbs.map(verbWords).filter(([one, two]) => one === first && two);
    return words.length > 0 ? [`    ${first}) words='${words.map(([, two]) => two).join(' ')}' ;;`] : [];
  });
  const verbPart =
    program === 'weftd'
      ? ''
      : `  if [[ $word != -* ]]; then
    local words='${firsts.join(' ')}'
    case $before in
${seconds.join('\n')}
    esac
    COMPREPLY=($(compgen -W "$words" -- "$word"))
    return
  fi
`;
  return `# Completions of ${program} for bash.
_${program}() {
  local word=\${COMP_WORDS[COMP_CWORD]} before=\${COMP_WORDS[COMP_CWORD-1]}
  COMPREPLY=()
  case $before in
${bashValues(options)}
  esac
${verbPart}  COMPREPLY=($(compgen -W '${flags(options).join(' ')}' -- "$word"))
}
complete -F _${program} ${program}
`;
}

const zshText = (text) => text.replaceAll("'", '’').replaceAll(/([[\]:\\])/g, '\\$1');

function zshOption(option) {
  const { value, help } = option;
  const action = takesPath(option) ? '_files' : wordsOf(option).length > 0 ? `(${wordsOf(option).join(' ')})` : ' ';
  return `  '${flag(option)}[${zshText(help)}]${value === '' ? '' : `:${zshText(value.toLowerCase())}:${action}`}'`;
}

/** @param {Help} help @param {'weftd' | 'weftctl'} program */
export function formatZsh({ weftd, weftctl, verbs }, program) {
  const options =
    program === 'weftd' ? weftd.options : unique([...weftctl.options, ...verbs.flatMap((v) => v.options)]);
  const firsts = [...new Set(verbs.map((verb) => verbWords(verb)[0]))];
  const seconds = [...new Set(verbs.flatMap((verb) => verbWords(verb).slice(1)))];
  const words = program === 'weftd' ? [] : [`  '1:verb:(${firsts.join(' ')})'`, `  '2::verb:(${seconds.join(' ')})'`];
  return `#compdef ${program}
# Completions of ${program} for zsh.
_arguments \\
${[...options.map(zshOption), ...words].join(' \\\n')}
`;
}

const fishText = (text) => `'${text.replaceAll('\\', '\\\\').replaceAll("'", "\\'")}'`;

/** @param {Help} help @param {'weftd' | 'weftctl'} program */
export function formatFish({ weftd, weftctl, verbs }, program) {
  const options =
    program === 'weftd' ? weftd.options : unique([...weftctl.options, ...verbs.flatMap((v) => v.options)]);
  const lines = [`# Completions of ${program} for fish.`, `complete -c ${program} -f`];
  if (program === 'weftctl') {
    for (const verb of verbs) {
      const [first, second] = verbWords(verb);
      const when = second ? `__fish_seen_subcommand_from ${first}` : '__fish_use_subcommand';
      lines.push(`complete -c weftctl -n ${fishText(when)} -a ${second ?? first} -d ${fishText(verb.summary)}`);
      if (second) lines.push(`complete -c weftctl -n '__fish_use_subcommand' -a ${first}`);
    }
  }
  for (const option of options) {
    const { name, value, help } = option;
    const words = wordsOf(option);
    const takes =
      value === '' ? '' : takesPath(option) ? ' -r -F' : ` -x${words.length ? ` -a '${words.join(' ')}'` : ''}`;
    lines.push(`complete -c ${program} -${name.length === 1 ? 's' : 'l'} ${name}${takes} -d ${fishText(help)}`);
  }
  return `${[...new Set(lines)].join('\n')}\n`;
}
