"use strict";
// Every text of the data enters the document as text (textContent), never as markup.

const order = new Intl.Collator(undefined, { numeric: true });

/** Smaller first; what is missing comes last either way. */
function compared(a, b, down) {
  const none = (v) => v === null || v === "";
  if (none(a) || none(b)) return none(a) - none(b);
  const by = typeof a === "number" && typeof b === "number" ? a - b : order.compare(a, b);
  return down ? -by : by;
}

/** Calls sort(column, down) on a click on a heading, and says in aria-sort what the rows are sorted by. */
function sortable(table, sort) {
  const headings = [...table.tHead.rows[0].cells];
  headings.forEach((heading, column) => {
    const button = heading.querySelector("button");
    if (!button) return;
    button.addEventListener("click", () => {
      const first = heading.dataset.first ?? "ascending";
      const other = first === "ascending" ? "descending" : "ascending";
      const way = heading.getAttribute("aria-sort") === first ? other : first;
      headings.forEach((each) => each.removeAttribute("aria-sort"));
      heading.setAttribute("aria-sort", way);
      sort(column, way === "descending");
    });
  });
}

/** A table that stands in the page. */
function sortRows(table) {
  const value = (row, column) => {
    const cell = row.cells[column];
    if (!("value" in cell.dataset)) return cell.textContent.trim();
    return cell.dataset.value === "" ? null : Number(cell.dataset.value);
  };
  sortable(table, (column, down) => {
    const body = table.tBodies[0];
    const rows = [...body.rows];
    rows.sort((a, b) => compared(value(a, column), value(b, column), down));
    body.append(...rows);
  });
}
document.querySelectorAll("table.sortable").forEach(sortRows);

/** The table of picks: its rows are made when they are looked at, a page at a time. */
function showPicks(data) {
  const PAGE = 50;
  const EXCERPT = 240;
  const table = document.getElementById("picks-table");
  const body = table.tBodies[0];
  const search = document.getElementById("picks-search");
  const only = document.getElementById("picks-source");
  const said = document.getElementById("picks-said");
  const back = document.getElementById("picks-back");
  const on = document.getElementById("picks-on");
  const onlyWay = document.getElementById("picks-way"); // of iterselect alone
  const collapsed = (turns) => turns.slice(0, -1).map(([, text]) => text).join(" ");
  const sourceOf = (row) => data.sources[row.source];
  const queryOf = (row) => (row.query === null ? null : data.queries[row.query].id);
  const wordsOf = (row) => (row.words ??= collapsed(row.turns).slice(0, EXCERPT * 2).replace(/\s+/g, " ").trim());
  const taken = data.ways ? [(row) => row.hardness, (row) => row.similarity, (row) => row.said] : [];
  const column = [(row) => row.rank, (row) => row.score, ...taken, sourceOf, queryOf, wordsOf]; // as the table's headings
  const figure = (value) => {
    if (value === null) return "–";
    return Math.abs(value) >= 1e5 ? value.toExponential(3) : String(+value.toPrecision(4));
  };
  let found = data.rows;
  let start = 0;

  const element = (name, className, text) => {
    const made = document.createElement(name);
    if (className) made.className = className;
    if (text !== undefined) made.textContent = text;
    return made;
  };

  const conversation = (title, turns) => {
    const side = element("div");
    const heading = element("h4", "", title);
    heading.dir = "auto";
    side.append(heading);
    for (const [role, text] of turns.slice(0, -1)) {
      const turn = element("div", "turn");
      const words = element("div", "said", text);
      words.dir = "auto";
      turn.append(element("div", "role", role), words);
      side.append(turn);
    }
    const leftOut = turns.at(-1);
    if (leftOut) side.append(element("p", "note", `${leftOut.toLocaleString("en")} more characters are left out here.`));
    return side;
  };

  const detail = (row) => {
    const line = element("tr", "detail");
    const cell = element("td");
    cell.colSpan = column.length;
    if (row.said) {
      const measured = `Q ${figure(row.score)}, M ${figure(row.hardness)}, R ${figure(row.similarity)}`;
      cell.append(element("p", "note", `${row.said[0].toUpperCase()}${row.said.slice(1)}. ${measured}.`));
    }
    const sides = element("div", "sides");
    sides.append(conversation(`Picked: ${row.id}`, row.turns));
    if (row.query !== null) {
      const query = data.queries[row.query];
      const lost = [["", `The text of the ${data.beside.kind} could not be read.`], 0];
      sides.append(conversation(`${data.beside.title}: ${query.id}`, query.turns ?? lost));
    }
    cell.append(sides);
    line.append(cell);
    return line;
  };

  const opener = (text, label) => {
    const button = element("button", "open-row", text);
    button.type = "button";
    button.dir = "auto";
    button.setAttribute("aria-expanded", "false");
    if (label) button.setAttribute("aria-label", label);
    return button;
  };

  const rowOf = (row) => {
    const line = element("tr");
    const words = wordsOf(row);
    const excerpt = words.length > EXCERPT ? words.slice(0, EXCERPT) + "…" : words;
    const openers = [opener(excerpt || "(no text)")];
    const query = element("td", "query");
    if (row.query !== null) {
      openers.push(opener(queryOf(row)));
      query.append(openers[1]);
    } else query.append(element("span", "faint", "–"));
    const source = element("td", "source", sourceOf(row));
    source.dir = "auto";
    const text = element("td");
    text.append(openers[0]);
    const named = (name, value) => {
      const cell = element("td", "n", figure(value));
      cell.dataset.name = name; // shown where the headings are not above it
      return cell;
    };
    line.append(element("td", "n", row.rank.toLocaleString("en")));
    if (data.ways) {
      line.append(named("Q", row.score), named("M", row.hardness), named("R", row.similarity));
      line.append(element("td", "way", row.said || "–"));
    } else line.append(element("td", "n", figure(row.score)));
    line.append(source, query, text);
    const toggle = () => {
      const open = openers[0].getAttribute("aria-expanded") !== "true";
      openers.forEach((each) => each.setAttribute("aria-expanded", String(open)));
      if (open) line.after(detail(row));
      else line.nextElementSibling.remove();
    };
    openers.forEach((each) => each.addEventListener("click", toggle));
    return line;
  };

  const show = () => {
    body.replaceChildren(...found.slice(start, start + PAGE).map(rowOf));
    const end = Math.min(start + PAGE, found.length);
    const n = (value) => value.toLocaleString("en");
    const beyond = data.total - data.rows.length; // the page holds the first ones only
    const more = beyond ? `; ${n(beyond)} more picks are in selected.jsonl` : "";
    said.textContent =
      (found.length ? `${n(start + 1)}–${n(end)} of ${n(found.length)} picks` : "No pick has that.") + more;
    back.disabled = start === 0;
    on.disabled = end >= found.length;
  };

  let sorting = [0, false];
  const sortFound = () => {
    const [by, down] = sorting;
    found = [...found].sort((a, b) => compared(column[by](a), column[by](b), down) || a.rank - b.rank);
  };

  const all = (row) =>
    (row.all ??= [row.id, sourceOf(row), queryOf(row) ?? "", collapsed(row.turns)].join("\n").toLowerCase());
  const filter = () => {
    const words = search.value.toLowerCase().split(/\s+/).filter(Boolean);
    const source = only.value === "" ? null : Number(only.value);
    const way = onlyWay?.value ?? "";
    found = data.rows.filter(
      (row) =>
        (source === null || row.source === source) &&
        (way === "" || row.way === way) &&
        words.every((word) => all(row).includes(word)),
    );
    start = 0;
    sortFound();
    show();
  };

  data.sources.forEach((name, place) => {
    const option = element("option", "", name.length > 60 ? name.slice(0, 59) + "…" : name);
    option.value = String(place);
    only.append(option);
  });
  for (const way of data.ways ?? []) onlyWay.append(element("option", "", way));
  onlyWay?.addEventListener("change", filter);
  search.addEventListener("input", filter);
  only.addEventListener("change", filter);
  back.addEventListener("click", () => { start = Math.max(0, start - PAGE); show(); });
  on.addEventListener("click", () => { start += PAGE; show(); });
  sortable(table, (by, down) => { sorting = [by, down]; start = 0; sortFound(); show(); });
  show();
}
const picks = document.getElementById("picks-data");
if (picks) showPicks(JSON.parse(picks.textContent));
