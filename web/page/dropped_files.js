// The files of a drop, also those in folders.

/** All files that are dropped and in dropped folders, in the order of their names, without hidden ones. */
export async function droppedFiles(transfer) {
  // The list of items is empty once this has waited for anything.
  const entries = [...transfer.items].map((item) => item.webkitGetAsEntry()).filter((entry) => entry !== null);
  const files = (await Promise.all(entries.map(filesOf))).flat();
  return files.filter(isVisible);
}

/** What systems leave in folders does not count. */
export function isVisible(file) {
  return ![...file.webkitRelativePath.split("/"), file.name].some((part) => part.startsWith("."));
}

async function filesOf(entry) {
  if (entry.isFile) return [await new Promise((resolve, reject) => entry.file(resolve, reject))];
  const reader = entry.createReader();
  const inside = [];
  for (;;) {
    const some = await new Promise((resolve, reject) => reader.readEntries(resolve, reject));
    if (!some.length) break; // a reader gives a hundred at a time
    inside.push(...some);
  }
  inside.sort((one, other) => (one.name < other.name ? -1 : 1));
  return (await Promise.all(inside.map(filesOf))).flat();
}
