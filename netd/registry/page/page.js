// Keeps the page as the server says it is: fetches the sections that have changed.
"use strict";
(() => {
  const RETRY_MS = 3000;
  const FETCH_MS = 10000;
  const SELECTED_MS = 1000;
  const live = document.getElementById("live");
  const run = document.documentElement.dataset.run;
  const parser = new DOMParser();
  let source = null;
  let timer = 0;
  let wanted = {}; // the last versions that were told, by section
  let busy = false;

  function say(words, isLive) {
    if (live.textContent !== words) live.textContent = words;
    live.classList.toggle("lost", !isLive);
  }

  function lost() {
    const clock = new Date().toISOString().slice(11, 19);
    say(`Not live since ${clock}; trying again.`, false);
  }

  function later(milliseconds, work) {
    clearTimeout(timer);
    timer = setTimeout(work, milliseconds);
  }

  function isSelectedIn(section) {
    const selection = document.getSelection();
    return selection !== null && !selection.isCollapsed && section.contains(selection.anchorNode);
  }

  // Puts a section in the place of what it was, with what its reader has done in it.
  function put(old, fresh) {
    const opened = new Set();
    for (const each of old.querySelectorAll("details[open]")) opened.add(each.dataset.key);
    for (const each of fresh.querySelectorAll("details")) each.open = opened.has(each.dataset.key);
    const scrolled = [...old.querySelectorAll(".scroll")].map((each) => each.scrollLeft);
    const reached = "a, summary, [tabindex]";
    const focused = [...old.querySelectorAll(reached)].indexOf(document.activeElement);
    old.replaceWith(fresh);
    fresh.querySelectorAll(".scroll").forEach((each, at) => {
      if (scrolled[at]) each.scrollLeft = scrolled[at];
    });
    if (focused >= 0) fresh.querySelectorAll(reached)[focused]?.focus({ preventScroll: true });
  }

  async function bring(name) {
    const answer = await fetch(`/section/${name}${location.search}`, {
      signal: AbortSignal.timeout(FETCH_MS),
    });
    if (!answer.ok) throw new Error(`answer ${answer.status}`);
    const found = parser.parseFromString(await answer.text(), "text/html").getElementById(name);
    const old = document.getElementById(name);
    if (found !== null && old !== null) put(old, found);
  }

  function stale() {
    return Object.keys(wanted).filter((name) => {
      const section = document.getElementById(name);
      return section !== null && Number(section.dataset.version) < wanted[name];
    });
  }

  // One section after the other; one in which somebody has selected text waits.
  async function update() {
    if (busy) return;
    busy = true;
    try {
      let names = stale();
      while (names.length > 0) {
        const name = names.find((each) => !isSelectedIn(document.getElementById(each)));
        if (name === undefined) {
          later(SELECTED_MS, update);
          break;
        }
        await bring(name);
        names = stale();
      }
      say("Live.", true);
    } catch {
      lost();
      later(RETRY_MS, update);
    } finally {
      busy = false;
    }
  }

  function close() {
    if (source !== null) source.close();
    source = null;
    clearTimeout(timer);
  }

  function open() {
    close();
    source = new EventSource("/watch");
    source.onmessage = (message) => {
      const news = JSON.parse(message.data);
      if (news.run !== run) {
        location.reload(); // another registry, perhaps of another version
        return;
      }
      wanted = news.versions;
      update();
    };
    source.onerror = () => {
      lost();
      if (source.readyState === EventSource.CLOSED) later(RETRY_MS, open);
    };
  }

  // A browser has few connections for one place: a page that nobody sees takes none.
  document.addEventListener("visibilitychange", () => {
    if (document.hidden) close();
    else if (source === null) open();
  });
  window.addEventListener("pageshow", (event) => {
    if (event.persisted) open();
  });
  if (!document.hidden) open();
})();
