// Runs before the first paint, and before any module: sets the chosen colours, so that nothing
// flashes, and says what to do when the modules are not there.
const theme = localStorage.getItem('moorline/theme');
if (theme) document.documentElement.dataset.theme = theme;

import('/static/app.js').catch((error) => {
  console.error(error);
  document.querySelector('.unbuilt').hidden = false;
});
