// Called first by `npm start` and `npm test`: runs the setup steps whose sources changed since they last ran, else nothing.
import { checkTools, STEPS } from './setup.mjs';
import { staleSteps, withLock, writeStamp } from './steps.mjs';

if (staleSteps().length > 0) {
  withLock(() => {
    const stale = staleSteps(); // again, under the lock: another process may just have done the work
    checkTools({ native: stale.includes('native') });
    for (const step of stale) {
      STEPS[step]();
      writeStamp(step);
    }
  });
}
