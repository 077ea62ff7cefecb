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

const numberOf = (value) => value.toLocaleString("en");
const figure = (value) => {
  if (value === null) return "–";
  return Math.abs(value) >= 1e5 ? value.toExponential(3) : String(+value.toPrecision(4));
};
const element = (name, className, text) => {
  const made = document.createElement(name);
  if (className) made.className = className;
  if (text !== undefined) made.textContent = text;
  return made;
};
const collapsed = (turns) => turns.slice(0, -1).map(([, text]) => text).join(" ");

/**
 * A table whose rows are made when they are looked at, a page at a time: of the data's `rows`, those that have all words
 * of the search and what each of the `choices` (a select, and a row's value for it) wants. `columns` give the values to
 * sort by, `said` all that is searched, `line` the table's row; `beyond` stands behind the count.
 */
function pagedTable(name, { rows, columns, said, line, choices, noun, beyond }) {
  const PAGE = 50;
  const PRINTED = 100;
  const part = (which) => document.getElementById(`${name}-${which}`);
  const [table, search, told, back, on] = ["table", "search", "said", "back", "on"].map(part);
  let found = rows;
  let start = 0;
  let sorting = [0, false];

  const show = (most = PAGE) => {
    const end = Math.min(start + most, found.length);
    table.tBodies[0].replaceChildren(...found.slice(start, end).map(line));
    const among = `${numberOf(start + 1)}–${numberOf(end)} of ${numberOf(found.length)} ${noun}s`;
    told.textContent = (found.length ? among : `No ${noun} has that.`) + (beyond ?? "");
    back.disabled = start === 0;
    on.disabled = end >= found.length;
  };
  const sortFound = () => {
    const [by, down] = sorting;
    found = [...found].sort((a, b) => compared(columns[by](a), columns[by](b), down) || columns[0](a) - columns[0](b));
    start = 0;
    show();
  };
  const filter = () => {
    const words = search.value.toLowerCase().split(/\s+/).filter(Boolean);
    found = rows.filter((row) => {
      row.all ??= said(row).join("\n").toLowerCase();
      const wanted = choices.every(([select, valueOf]) => select.value === "" || select.value === valueOf(row));
      return wanted && words.every((word) => row.all.includes(word));
    });
    sortFound();
  };
  search.addEventListener("input", filter);
  choices.forEach(([select]) => select.addEventListener("change", filter));
  back.addEventListener("click", () => { start = Math.max(0, start - PAGE); show(); });
  on.addEventListener("click", () => { start += PAGE; show(); });
  sortable(table, (by, down) => { sorting = [by, down]; sortFound(); });
  addEventListener("beforeprint", () => show(PRINTED));
  addEventListener("afterprint", () => show());
  show();
}

/** The table of picks, whose texts open beside what they were picked for. */
function showPicks(data) {
  const EXCERPT = 240;
  const only = document.getElementById("picks-source");
  const onlyWay = document.getElementById("picks-way"); // of iterselect alone
  const sourceOf = (row) => data.sources[row.source];
  const queryOf = (row) => (row.query === null ? null : data.queries[row.query].id);
  const wordsOf = (row) => (row.words ??= collapsed(row.turns).slice(0, EXCERPT * 2).replace(/\s+/g, " ").trim());
  const taken = data.ways ? [(row) => row.hardness, (row) => row.similarity, (row) => row.said] : [];
  const columns = [(row) => row.rank, (row) => row.score, ...taken, sourceOf, queryOf, wordsOf]; // as the headings

  const conversation = (title, turns) => {
    const side = element("div");
    const heading = element("h3", "", title);
    heading.dir = "auto";
    side.append(heading);
    for (const [role, text] of turns.slice(0, -1)) {
      const turn = element("div", "turn");
      const words = element("div", "said", text);
      words.dir = "auto";
      words.tabIndex = 0; // what is long scrolls
      words.setAttribute("role", "group");
      words.setAttribute("aria-label", role || "text");
      turn.append(element("div", "role", role), words);
      side.append(turn);
    }
    const leftOut = turns.at(-1);
    if (leftOut) side.append(element("p", "note", `${numberOf(leftOut)} more characters are left out here.`));
    return side;
  };

  const detail = (row) => {
    const line = element("tr", "detail");
    const cell = element("td");
    cell.colSpan = columns.length;
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

  const opener = (text) => {
    const button = element("button", "open-row", text);
    button.type = "button";
    button.dir = "auto";
    button.setAttribute("aria-expanded", "false");
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
    line.append(element("td", "n", numberOf(row.rank)));
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

  data.sources.forEach((name, place) => {
    const option = element("option", "", name.length > 60 ? name.slice(0, 59) + "…" : name);
    option.value = String(place);
    only.append(option);
  });
  for (const way of data.ways ?? []) onlyWay.append(element("option", "", way));
  const beyond = data.total - data.rows.length; // the page holds the first ones only
  pagedTable("picks", {
    rows: data.rows,
    columns,
    said: (row) => [row.id, sourceOf(row), queryOf(row) ?? "", collapsed(row.turns)],
    line: rowOf,
    choices: [[only, (row) => String(row.source)], ...(onlyWay ? [[onlyWay, (row) => row.way]] : [])],
    noun: "pick",
    beyond: beyond ? `; ${numberOf(beyond)} more picks are in selected.jsonl` : "",
  });
}

/** The best of the pool, chosen or not. */
function showBest(rows) {
  const textOf = (row) => row.text || "(no text)";
  const cell = (className, text) => {
    const made = element("td", className, text);
    made.dir = "auto";
    return made;
  };
  pagedTable("best", {
    rows,
    columns: [(row) => row.place, (row) => row.score, (row) => row.pick, (row) => row.source, textOf],
    said: (row) => [row.id, row.source, row.text],
    line: (row) => {
      const line = element("tr", row.pick === null ? "" : "taken");
      const named = { place: numberOf(row.place), nearness: figure(row.score), pick: row.pick === null ? "–" : numberOf(row.pick) };
      for (const [name, value] of Object.entries(named)) {
        line.append(element("td", "n", value));
        line.lastChild.dataset.name = name; // shown where the headings are not above it
      }
      line.append(cell("source", row.source), cell("", textOf(row)));
      return line;
    },
    choices: [[document.getElementById("best-chosen"), (row) => (row.pick === null ? "passed over" : "chosen")]],
    noun: "example",
  });
}

/** The map: the point nearest to the pointer, or the next one, says its text. */
function showMap({ layers }) {
  const REACH = 30; // in the drawing's units
  const part = (which) => document.getElementById(`map-${which}`);
  const [frame, said, here, line, only] = ["frame", "said", "here", "line", "only"].map(part);
  const svg = frame.querySelector("svg");
  const points = layers.flatMap(({ name, points }, layer) =>
    points.map(([x, y, id, text, query]) => ({ x, y, id, text, query, name, layer })),
  );
  let shown = null;

  const put = (made, places) => Object.entries(places).forEach(([name, value]) => made.setAttribute(name, value));
  const show = (point) => {
    if (point === shown) return;
    shown = point;
    put(here, { cx: point.x, cy: point.y });
    const query = typeof point.query === "number" ? layers[1].points[point.query] : null;
    put(line, query ? { x1: point.x, y1: point.y, x2: query[0], y2: query[1] } : { x1: 0, y1: 0, x2: 0, y2: 0 });
    const kind = { pool: "Example of the pool", query: "Query", pick: "Pick" }[point.name];
    const of = query ? `, for the query ${query[2]}` : "";
    said.replaceChildren(element("strong", "", `${kind} ${point.id}${of}: `), point.text || "(no text)");
  };
  const step = (by) => {
    const layer = Number(only.value);
    const own = points.filter((point) => point.layer === layer);
    if (!own.length) return void (said.textContent = "There are none.");
    const at = own.indexOf(shown);
    show(own[at < 0 ? 0 : (at + by + own.length) % own.length]);
  };
  frame.addEventListener("pointermove", (event) => {
    const box = svg.getBoundingClientRect();
    const { width, height } = svg.viewBox.baseVal;
    const x = ((event.clientX - box.left) / box.width) * width;
    const y = ((event.clientY - box.top) / box.height) * height;
    let least = REACH ** 2;
    let nearest = null;
    for (const point of points) {
      const far = (point.x - x) ** 2 + (point.y - y) ** 2;
      if (far <= least) [least, nearest] = [far, point]; // of equals the one that is drawn last
    }
    if (nearest) show(nearest);
  });
  frame.addEventListener("keydown", (event) => {
    const by = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1 }[event.key];
    if (!by) return;
    event.preventDefault();
    step(by);
  });
  part("back").addEventListener("click", () => step(-1));
  part("on").addEventListener("click", () => step(1));
}

for (const [id, show] of Object.entries({ "picks-data": showPicks, "best-data": showBest, "map-data": showMap })) {
  const data = document.getElementById(id);
  if (data) show(JSON.parse(data.textContent));
}

/** On paper nothing can be opened: all is open there, and as it was afterwards. */
let opened = [];
addEventListener("beforeprint", () => {
  opened = [...document.querySelectorAll("details:not([open])")];
  opened.forEach((each) => (each.open = true));
});
addEventListener("afterprint", () => opened.forEach((each) => (each.open = false)));
