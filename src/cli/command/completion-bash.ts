/** Completion for bash 4 and later, without the package bash-completion. */
import { kindOf, type Node, spellings } from './completion-node.js';
import { placeholderOf } from './spec.js';

export function bashCompletion(nodes: readonly Node[]): string {
  const withValue = new Set(
    nodes.flatMap(({ options }) => options.filter((one) => placeholderOf(one) !== undefined).flatMap(spellings)),
  );
  const cases = nodes.map(({ path, words, options, completes }) => {
    const own = [...words.map(([word]) => word)].join(' ');
    const flags = [...options.flatMap(spellings), '-h', '--help'].join(' ');
    return `    '${path}') words='${own}' flags='${flags}' kind='${kindOf(completes)}' ;;`;
  });
  const values = new Map(
    nodes.flatMap(({ path, options }) =>
      options
        .filter((option) => option.completes !== undefined)
        .flatMap((option) => spellings(option).map((name) => [`${path} ${name}`, kindOf(option.completes)] as const)),
    ),
  );
  const valueCases = [...values].map(([at, kind]) => `      '${at}') kind='${kind}' ;;`);
  const paths = nodes.map(({ path }) => `'${path}'`).filter((path) => path !== "''");
  return `# bash completion of lamina; made by: lamina completion bash
_lamina() {
  local cur=\${COMP_WORDS[COMP_CWORD]} prev='' path='' word next words='' flags='' kind='' skip='' i
  COMPREPLY=()
  for ((i = 1; i < COMP_CWORD; i++)); do
    word=\${COMP_WORDS[i]}
    if [ -n "$skip" ]; then skip=''; continue; fi
    case $word in
      ${[...withValue].join('|')}) skip=1; continue ;;
      -*) continue ;;
    esac
    next="\${path:+$path }$word"
    case $next in
      ${paths.join('|')}) path=$next ;;
    esac
  done
  [ -z "$skip" ] || prev=\${COMP_WORDS[COMP_CWORD - 1]}
  case $path in
${cases.join('\n')}
  esac
  if [ -n "$prev" ]; then
    kind='' words=''
    case "$path $prev" in
${valueCases.join('\n')}
    esac
  elif [[ $cur == -* ]]; then
    kind='' words=$flags
  fi
  case $kind in
    file) COMPREPLY=($(compgen -f -- "$cur")); compopt -o filenames 2>/dev/null ;;
    folder) COMPREPLY=($(compgen -d -- "$cur")); compopt -o filenames 2>/dev/null ;;
    *) COMPREPLY=($(compgen -W "$words $kind" -- "$cur")) ;;
  esac
}
complete -F _lamina lamina
`;
}
