/** Completion for zsh: a function for its completion system. */
import { kindOf, type Node, spellings } from './completion-node.js';
import { placeholderOf } from './spec.js';

export function zshCompletion(nodes: readonly Node[]): string {
  const withValue = new Set(
    nodes.flatMap(({ options }) => options.filter((one) => placeholderOf(one) !== undefined).flatMap(spellings)),
  );
  const cases = nodes.map(({ path, words, options, completes }) => {
    const own = words.map(([word, summary]) => quote(`${word}:${summary}`));
    const flags = options.flatMap((option) => spellings(option).map((name) => quote(`${name}:${option.description}`)));
    const all = [...flags, quote('--help:how it is used')].join(' ');
    return `    ${quote(path)}) words_of=(${own.join(' ')}) flags_of=(${all}) kind=${quote(kindOf(completes))} ;;`;
  });
  const values = nodes.flatMap(({ path, options }) =>
    options
      .filter((option) => option.completes !== undefined)
      .flatMap((option) =>
        spellings(option).map(
          (name) => `      ${quote(`${path} ${name}`)}) kind=${quote(kindOf(option.completes))} ;;`,
        ),
      ),
  );
  const paths = nodes.map(({ path }) => path).filter((path) => path !== '');
  return `#compdef lamina
# zsh completion of lamina; made by: lamina completion zsh
_lamina() {
  local path_of='' prev='' word next skip='' kind='' i
  local -a words_of flags_of
  for ((i = 2; i < CURRENT; i++)); do
    word=\${words[i]}
    if [[ -n $skip ]]; then skip=''; continue; fi
    case $word in
      ${[...withValue].join('|')}) skip=1; continue ;;
      -*) continue ;;
    esac
    next="\${path_of:+$path_of }$word"
    case $next in
      ${paths.map(quote).join('|')}) path_of=$next ;;
    esac
  done
  [[ -z $skip ]] || prev=\${words[CURRENT - 1]}
  case $path_of in
${cases.join('\n')}
  esac
  if [[ -n $prev ]]; then
    kind=''
    words_of=()
    case "$path_of $prev" in
${values.join('\n')}
    esac
  elif [[ $PREFIX == -* ]]; then
    _describe -o option flags_of
    return
  fi
  case $kind in
    file) _files ;;
    folder) _files -/ ;;
    ?*) compadd -- \${=kind} ;;
    *) (( \${#words_of} )) && _describe command words_of ;;
  esac
}
if [[ $funcstack[1] == _lamina ]]; then _lamina "$@"; else compdef _lamina lamina; fi
`;
}

function quote(text: string): string {
  return `'${text.replaceAll("'", "'\\''")}'`;
}
