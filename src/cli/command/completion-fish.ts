/** Completion for fish. */
import { type Node, spellings } from './completion-node.js';
import { type Completes, placeholderOf } from './spec.js';

export function fishCompletion(nodes: readonly Node[]): string {
  const withValue = new Set(
    nodes.flatMap(({ options }) => options.filter((one) => placeholderOf(one) !== undefined).flatMap(spellings)),
  );
  const paths = nodes.map(({ path }) => path).filter((path) => path !== '');
  const lines = nodes.flatMap(({ path, words, options, completes }) => {
    const at = `complete -c lamina -n ${quote(`__lamina_at ${quote(path)}`)}`;
    return [
      ...words.map(([word, summary]) => `${at} -a ${quote(word)} -d ${quote(summary)}`),
      ...options.map(
        (option) =>
          `${at} ${namesOf(spellings(option))} -d ${quote(option.description)}${valueFlags(option.completes, placeholderOf(option))}`,
      ),
      ...(completes === undefined ? [] : [`${at} ${argumentFlags(completes)}`]),
    ];
  });
  return `# fish completion of lamina; made by: lamina completion fish
function __lamina_path
  set -l path ''
  set -l skip 0
  for word in (commandline -opc)[2..-1]
    if test $skip = 1
      set skip 0
      continue
    end
    switch $word
      case ${[...withValue].join(' ')}
        set skip 1
      case '-*'
      case '*'
        set -l next (string trim -- "$path $word")
        if contains -- $next ${paths.map(quote).join(' ')}
          set path $next
        end
    end
  end
  echo $path
end
function __lamina_at
  set -l path (__lamina_path)
  test "$path" = "$argv[1]"
end
complete -c lamina -f
complete -c lamina -s h -l help -d 'how it is used'
${lines.join('\n')}
`;
}

function namesOf(names: readonly string[]): string {
  return names.map((name) => (name.startsWith('--') ? `-l ${name.slice(2)}` : `-s ${name.slice(1)}`)).join(' ');
}

function valueFlags(completes: Completes | undefined, value: string | undefined): string {
  if (value === undefined) return '';
  return completes === undefined ? ' -x' : ` -r ${argumentFlags(completes)}`;
}

function argumentFlags(completes: Completes): string {
  if (completes === 'file') return '-F';
  if (completes === 'folder') return "-a '(__fish_complete_directories)'";
  return `-a ${quote(completes.join(' '))}`;
}

function quote(text: string): string {
  return `'${text.replaceAll('\\', '\\\\').replaceAll("'", "\\'")}'`;
}
